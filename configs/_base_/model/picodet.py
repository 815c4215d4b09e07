# A light detector in the style of PicoDet (arXiv 2111.00902): ShuffleNetV2 (the original's ESNet is made of it), a
# narrow path aggregation with depthwise 5x5 convolutions and four levels, depthwise towers, eight bins a side,
# task-aligned assignment, varifocal loss. Published for the original (COCO val2017, 416 px): S 30.6 AP of 0.99 M, M
# 34.3 of 2.15 M.
_strides = (8, 16, 32, 64)

model = dict(
    type="DenseDetector",
    preprocess=dict(type="ImageNormalizer"),
    backbone=dict(type="ShuffleNetV2", width=1.0),
    neck=dict(type="LightPAN", in_channels=(116, 232, 464), out_channels=96),
    head=dict(
        type="DenseHead",
        network=dict(
            type="LevelTowers",
            num_classes=80,
            in_channels=96,
            feat_channels=96,
            strides=_strides,
            box_channels=32,
            activation="hardswish",
            depthwise=True,
        ),
        priors=dict(type="PointPriors", strides=_strides),
        box_coder=dict(type="DistributionBoxCoder", reg_max=7),
        criterion=dict(
            type="QualityCriterion",
            assigner=dict(type="TaskAlignedAssigner", inside_first=True),
            loss_cls=dict(type="VarifocalLoss"),
            loss_bbox=dict(type="GIoULoss", loss_weight=2.5),
            loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.5),
        ),
        decoder=dict(type="DenseDecoder", score_threshold=0.025, nms_iou=0.6),
    ),
)
