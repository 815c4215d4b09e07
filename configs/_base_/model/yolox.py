# YOLOX (arXiv 2107.08430). Variants change depth, width and depthwise; channels of the neck and head follow the width.
# Official weights: BGR images of 0 to 255 as they are, padded with 114.
_norm = dict(type="BN", eps=1e-3, momentum=0.03)

model = dict(
    type="DenseDetector",
    preprocess=dict(type="ImageNormalizer", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), channel_order="bgr"),
    backbone=dict(type="CSPDarknet", depth=1.0, width=1.0),
    neck=dict(type="YOLOXPAFPN", in_channels=(256, 512, 1024), depth=1.0, out_channels=256),
    head=dict(
        type="DenseHead",
        network=dict(
            type="LevelTowers",
            num_classes=80,
            in_channels=256,
            feat_channels=256,
            strides=(8, 16, 32),
            quality="box",
            norm=_norm,
        ),
        priors=dict(type="PointPriors", strides=(8, 16, 32), offset=0.0),
        box_coder=dict(type="StrideBoxCoder"),
        criterion=dict(
            type="ObjectnessCriterion",
            assigner=dict(type="SimOTAAssigner", center_radius=1.5, candidates="center", penalty=1e6),
        ),
        decoder=dict(
            type="DenseDecoder", score_threshold=0.001, nms_iou=0.65, max_boxes=300, single_label=True, clip=False
        ),
    ),
)
