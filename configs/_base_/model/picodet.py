# PicoDet (arXiv 2111.00902): ESNet, narrow path aggregation with depthwise 5x5 convolutions and four levels, one tower
# for classes and boxes, eight bins a side, SimOTA with the varifocal loss and GIoU as its cost, varifocal loss.
# This is M.
_strides = (8, 16, 32, 64)

model = dict(
    type="DenseDetector",
    preprocess=dict(type="ImageNormalizer"),
    backbone=dict(
        type="ESNet",
        width=1.0,
        ratios=(0.875, 0.5, 1.0, 0.625, 0.5, 0.75, 0.625, 0.625, 0.5, 0.625, 1.0, 0.625, 0.75),
    ),
    neck=dict(type="LightPAN", in_channels=(128, 256, 512), out_channels=128),
    head=dict(
        type="DenseHead",
        network=dict(type="LightTowers", num_classes=80, in_channels=128, stacked_convs=4),
        priors=dict(type="PointPriors", strides=_strides),
        box_coder=dict(type="DistributionBoxCoder", reg_max=7),
        criterion=dict(
            type="DistributionCriterion",
            assigner=dict(type="SimOTAAssigner", cost="varifocal", iou_weight=6.0, penalty=1e8, root=False),
            loss_cls=dict(type="VarifocalLoss"),
            loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
            loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.25),
            dynamic=True,
        ),
        decoder=dict(type="DenseDecoder", score_threshold=0.025, nms_iou=0.6),
    ),
)
