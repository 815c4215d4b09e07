# YOLOv3-tiny (arXiv 1804.02767 and its authors' configuration), 8.8 M parameters. Published: AP50 33.1 on COCO test-dev
# at 416 px (the authors' page).
model = dict(
    type="DenseDetector",
    preprocess=dict(type="ImageNormalizer", mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)),
    backbone=dict(type="TinyDarknet"),
    neck=dict(type="TinyYOLOv3Neck", in_channels=(256, 1024), out_channels=256),
    head=dict(
        type="DenseHead",
        network=dict(type="CoupledConvs", num_classes=80, in_channels=(384, 256), mid_channels=(256, 512), per_cell=3),
        priors=dict(
            type="SizedAnchors",
            strides=(16, 32),
            sizes_px=(((10, 14), (23, 27), (37, 58)), ((81, 82), (135, 169), (344, 319))),
        ),
        box_coder=dict(type="CellBoxCoder"),
        criterion=dict(type="GridCriterion", assigner=dict(type="GridAssigner")),
        decoder=dict(
            type="DenseDecoder", score_threshold=0.005, nms_iou=0.45, max_boxes=300, clip=False, across_levels=True
        ),
    ),
)
