# YOLOv3 (arXiv 1804.02767): Darknet-53, three levels, one responsible anchor a box.
model = dict(
    type="DenseDetector",
    preprocess=dict(type="ImageNormalizer", mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)),
    backbone=dict(type="Darknet53"),
    neck=dict(type="YOLOv3Neck", in_channels=(256, 512, 1024), out_channels=(128, 256, 512)),
    head=dict(
        type="DenseHead",
        network=dict(
            type="CoupledConvs", num_classes=80, in_channels=(128, 256, 512), mid_channels=(256, 512, 1024), per_cell=3
        ),
        priors=dict(
            type="SizedAnchors",
            strides=(8, 16, 32),
            sizes_px=(
                ((10, 13), (16, 30), (33, 23)),
                ((30, 61), (62, 45), (59, 119)),
                ((116, 90), (156, 198), (373, 326)),
            ),
        ),
        box_coder=dict(type="CellBoxCoder"),
        criterion=dict(type="GridCriterion", assigner=dict(type="GridAssigner")),
        decoder=dict(type="DenseDecoder", nms_iou=0.45, quality_threshold=0.005, clip=False, across_levels=True),
    ),
)
