# EfficientDet-D0 (arXiv 1911.09070): EfficientNet-B0, three rounds of BiFPN of 64 channels, separable towers of
# depth 3. The box loss is the published Huber loss of 0.1 times 50, a mean over four values.
_strides = (8, 16, 32, 64, 128)

model = dict(
    type="DenseDetector",
    preprocess=dict(type="ImageNormalizer"),
    backbone=dict(type="EfficientNet", variant="b0", out_indices=(2, 3, 4)),
    neck=dict(type="BiFPN", in_channels=(40, 112, 320), out_channels=64, layers=3),
    head=dict(
        type="DenseHead",
        network=dict(type="SeparableTowers", num_classes=80, in_channels=64, depth=3),
        priors=dict(type="OctaveAnchors", strides=_strides),
        box_coder=dict(type="DeltaBoxCoder"),
        criterion=dict(
            type="AnchorCriterion",
            assigner=dict(type="MaxIoUAssigner", pos_iou=0.5, neg_iou=0.5),
            loss_cls=dict(type="FocalLoss", gamma=1.5),
            loss_bbox=dict(type="SmoothL1Loss", beta=0.1, loss_weight=1.25),
        ),
        decoder=dict(type="DenseDecoder", score_threshold=0.01),
    ),
)
