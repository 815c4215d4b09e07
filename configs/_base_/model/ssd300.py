# SSD (arXiv 1512.02325) at 300 px on VGG-16.
_strides = (8, 16, 32, 64, 100, 300)

model = dict(
    type="DenseDetector",
    preprocess=dict(type="ImageNormalizer", mean=(123.675, 116.28, 103.53), std=(1.0, 1.0, 1.0)),
    backbone=dict(type="SSDVGG"),
    neck=dict(type="SSDNeck"),
    head=dict(
        type="DenseHead",
        network=dict(
            type="LevelTowers",
            num_classes=81,
            in_channels=(512, 1024, 512, 256, 256, 256),
            strides=_strides,
            stacked_convs=0,
            per_cell=(4, 6, 6, 6, 4, 4),
            kernel_size=3,
        ),
        priors=dict(type="SSDAnchors", strides=_strides, ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))),
        box_coder=dict(type="DeltaBoxCoder", stds=(0.1, 0.1, 0.2, 0.2)),
        criterion=dict(
            type="AnchorCriterion",
            assigner=dict(type="MaxIoUAssigner", pos_iou=0.5, neg_iou=0.5, all_best=False),
            loss_cls=dict(type="CrossEntropyLoss"),
            loss_bbox=dict(type="SmoothL1Loss"),
            negatives_per_positive=3.0,
        ),
        score_form="softmax",
        decoder=dict(type="DenseDecoder", score_threshold=0.02, nms_iou=0.45, max_boxes=200),
    ),
)
