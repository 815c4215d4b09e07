"""A DETR3D of 1.4 M parameters for the synthetic world: learns in a quarter of an hour on two CPU cores.

Not the published network: a small backbone instead of ResNet, queries seeded from an image head, everything relative
to the viewing ray, several sampling points a query, depth supervision and denoising. See SeededDetr3D.
"""

_base_ = [
    "configs/_base_/data/synthetic_352x128.py",
    "configs/_base_/schedule/adamw_cosine.py",
    "configs/_base_/runtime/default.py",
]

_range_m = (-56.0, -56.0, -5.0, 56.0, 56.0, 3.0)
_dim = 64
_bins = dict(type="LogDepthBins", low_m=2.0, high_m=58.0, count=32)

_decoder_layer = dict(
    type="DetrDecoderLayer",
    embed_dim=_dim,
    num_heads=4,
    hidden_dim=128,
    dropout=0.0,
    cross_attention=dict(
        type="RayCrossAttention", embed_dim=_dim, range_m=_range_m, depth_bins=_bins, num_points=5, profile_reach=6
    ),
)

model = dict(
    type="SeededDetr3D",
    preprocess=dict(type="ImageNormalizer"),
    img_backbone=dict(type="UnshuffleNet", widths=(32, 64, 96, 128), blocks=(1, 2, 2, 2)),
    img_neck=dict(type="TopDownNeck", in_channels=(64, 96, 128), out_channels=_dim),
    pts_bbox_head=dict(
        type="SeededDetr3DHead",
        num_queries=50,
        num_seeds=150,
        embed_dim=_dim,
        num_classes=10,
        image_head=dict(
            type="ImageCenterHead",
            in_channels=_dim,
            hidden_channels=_dim,
            num_classes=10,
            depth_bins=_bins,
            stride_px=8,
            ground_m=-1.84,
        ),
        denoising=dict(type="Denoising", num_queries=200, center_share=0.08, label_flip=0.2),
        balance_range_m=15.0,
        transformer=dict(
            type="Detr3DTransformer",
            embed_dim=_dim,
            layers=[_decoder_layer] * 3,
            refinement=dict(type="RayRefinement", range_m=_range_m, step_share=0.1),
        ),
        assigner=dict(type="HungarianAssigner3D", cls_weight=2.0, reg_weight=0.25),
        coder=dict(type="NMSFreeCoder", max_boxes=300),
        loss_cls=dict(type="FocalLoss", gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type="L1Loss", loss_weight=0.25),
    ),
    loss_weights=dict(depth=1.0, heatmap=1.0, center=1.0, dn=1.0),
)

train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        load_points=True,
        transforms=[
            dict(type="RigMirror", probability=0.5),
            dict(type="RangeFilter", x_m=(-54.0, 54.0), y_m=(-54.0, 54.0)),
        ],
    )
)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="bfloat16",
    optimizer=dict(_delete_=True, type="MuonAdamW", lr=1e-2, weight_decay=0.01),
    # The decoder wants a smaller rate than the convolutions.
    paramwise_cfg=dict(
        custom_keys={"pts_bbox_head": dict(lr_mult=0.5), "pts_bbox_head.image_head": dict(lr_mult=1.0)}
    ),
)
train_cfg = dict(max_steps=2600)
