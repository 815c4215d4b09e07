"""DETR3D with ResNet-101 and deformable convolutions on nuScenes, as published (arXiv 2110.06922).

Needs the weights of an FCOS3D detector to start from: ``--cfg-options load_from=fcos3d.pth``. The published result
of this recipe on the validation split is mAP .347, NDS .422 (README of WangYueFt/detr3d; mmdet3d's retrained weights
.355, .428, README of its projects/DETR3D).
"""

_base_ = [
    "configs/_base_/data/nuscenes_1600x900.py",
    "configs/_base_/schedule/adamw_cosine.py",
    "configs/_base_/runtime/default.py",
]

_range_m = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
_embed_dim = 256
_num_layers = 6

_decoder_layer = dict(
    type="DetrDecoderLayer",
    embed_dim=_embed_dim,
    num_heads=8,
    hidden_dim=512,
    dropout=0.1,
    cross_attention=dict(
        type="CameraCrossAttention", embed_dim=_embed_dim, num_cameras=6, num_levels=4, range_m=_range_m, dropout=0.1
    ),
)

model = dict(
    type="Detr3D",
    preprocess=dict(type="ImageNormalizer", mean=(103.530, 116.280, 123.675), std=(1.0, 1.0, 1.0), channel_order="bgr"),
    grid_mask=dict(type="GridMask", probability=0.7, ratio=0.5),
    img_backbone=dict(
        type="ResNet",
        depth=101,
        style="caffe",
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        norm_frozen=True,
        dcn_stages=(False, False, True, True),
    ),
    img_neck=dict(
        type="FPN",
        in_channels=(256, 512, 1024, 2048),
        out_channels=_embed_dim,
        start_level=1,
        num_outs=4,
        extra_levels="on_output",
        relu_before_extra_convs=True,
    ),
    pts_bbox_head=dict(
        type="Detr3DHead",
        num_queries=900,
        embed_dim=_embed_dim,
        num_classes=10,
        transformer=dict(
            type="Detr3DTransformer",
            embed_dim=_embed_dim,
            layers=[_decoder_layer] * _num_layers,
            refinement=dict(type="SigmoidRefinement", range_m=_range_m),
        ),
        assigner=dict(type="HungarianAssigner3D", cls_weight=2.0, reg_weight=0.25),
        coder=dict(type="NMSFreeCoder", max_boxes=300, center_range_m=(-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)),
        loss_cls=dict(type="FocalLoss", gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type="L1Loss", loss_weight=0.25),
    ),
)

# Total batch 8 (8 processes of 1), half a cosine down to 1e-3 of the rate after 500 steps of warm-up from a third.
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.1)), norm_decay_mult=1.0, bias_decay_mult=1.0),
    clip_grad=dict(max_norm=35.0, norm_type=2),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup=500, start_ratio=1 / 3, min_ratio=1e-3)]
custom_hooks = []  # the published result is of the last weights, not of an average
train_cfg = dict(max_epochs=24, val_interval_epochs=2)
