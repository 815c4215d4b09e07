# An anchor-free detector in the style of PP-YOLOE (arXiv 2203.16250): CSPDarknet and PAFPN, two towers, distributed
# sides, task-aligned assignment among the priors inside a box, varifocal loss. Its own backbone and attended
# head are in ppyoloe_crn.py. Published for the original (COCO test-dev, 640 px): s 43.1, m 48.9, l 51.4, x 52.2 AP.
_strides = (8, 16, 32)
_norm = dict(type="BN", eps=1e-3, momentum=0.03)

model = dict(
    type="DenseDetector",
    preprocess=dict(type="ImageNormalizer"),
    backbone=dict(type="CSPDarknet", depth=1.0, width=1.0, stem="conv", pooling="sppf"),
    neck=dict(type="YOLOXPAFPN", in_channels=(256, 512, 1024), depth=1.0, out_channels=256),
    head=dict(
        type="DenseHead",
        network=dict(
            type="LevelTowers",
            num_classes=80,
            in_channels=256,
            feat_channels=256,
            strides=_strides,
            box_channels=68,
            norm=_norm,
        ),
        priors=dict(type="PointPriors", strides=_strides),
        box_coder=dict(type="DistributionBoxCoder", reg_max=16),
        criterion=dict(
            type="QualityCriterion",
            assigner=dict(type="TaskAlignedAssigner", inside_first=True),
            loss_cls=dict(type="VarifocalLoss"),
            loss_bbox=dict(type="GIoULoss", loss_weight=2.5),
            loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.5),
        ),
        decoder=dict(type="DenseDecoder", score_threshold=0.01, nms_iou=0.7, max_boxes=300),
    ),
)
