# One prediction a box: a Hungarian head that needs no suppression, taught together with a one-to-many head (the pairs
# of YOLOv10, arXiv 2405.14458, with DETR's matching) that inference and export leave out.
_base_ = ["configs/_base_/model/ppyoloe.py"]

_strides = (8, 16, 32)
_norm = dict(type="BN", eps=1e-3, momentum=0.03)
_towers = dict(
    type="LevelTowers",
    num_classes=80,
    in_channels=256,
    feat_channels=256,
    strides=_strides,
    box_channels=68,
    norm=_norm,
)
_places = dict(
    priors=dict(type="PointPriors", strides=_strides), box_coder=dict(type="DistributionBoxCoder", reg_max=16)
)

model = dict(
    head=dict(
        _delete_=True,
        type="PairedHead",
        head=dict(
            type="DenseHead",
            network=_towers,
            criterion=dict(type="OneToOneCriterion", assigner=dict(type="HungarianAssigner2D")),
            decoder=dict(type="DenseDecoder", score_threshold=0.01, nms_iou=None, max_boxes=300),
            **_places,
        ),
        teacher=dict(
            type="DenseHead",
            network=_towers,
            criterion=dict(
                type="QualityCriterion",
                assigner=dict(type="TaskAlignedAssigner", inside_first=True),
                loss_cls=dict(type="VarifocalLoss"),
                loss_bbox=dict(type="GIoULoss", loss_weight=2.5),
                loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.5),
            ),
            decoder=dict(type="DenseDecoder", score_threshold=0.01, nms_iou=0.7, max_boxes=300),
            **_places,
        ),
    )
)
