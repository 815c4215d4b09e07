# An anchor detector in the style of YOLOv5 from release 6 on: CSPDarknet with a convolution for a stem and SPPF, PAFPN,
# one 1x1 convolution a level, anchors of like shape in the box's cell and its neighbours. Variants change depth and
# width. Published for the original (its authors' README, COCO val2017, 640 px): n 28.0, s 37.4, m 45.4, l 49.0, x 50.7.
_strides = (8, 16, 32)

model = dict(
    type="DenseDetector",
    preprocess=dict(type="ImageNormalizer", mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)),
    backbone=dict(type="CSPDarknet", depth=1.0, width=1.0, stem="conv", pooling="sppf"),
    neck=dict(type="YOLOXPAFPN", in_channels=(256, 512, 1024), depth=1.0),
    head=dict(
        type="DenseHead",
        network=dict(
            type="CoupledConvs",
            num_classes=80,
            in_channels=(256, 512, 1024),
            per_cell=3,
            prior_probability=0.01,
        ),
        priors=dict(
            type="SizedAnchors",
            strides=_strides,
            sizes_px=(
                ((10, 13), (16, 30), (33, 23)),
                ((30, 61), (62, 45), (59, 119)),
                ((116, 90), (156, 198), (373, 326)),
            ),
        ),
        box_coder=dict(type="RatioBoxCoder"),
        criterion=dict(type="RatioCriterion", assigner=dict(type="RatioAssigner")),
        decoder=dict(type="DenseDecoder", score_threshold=0.001, nms_iou=0.6, max_boxes=300),
    ),
)
