"""PETR with ResNet-50 at stride 16 on nuScenes, 512x1408 (arXiv 2203.05625).

Published on the validation split: NDS .367, mAP .317 (README of megvii-research/PETR, p4 1408x512). Starts from a
Caffe-style ImageNet ResNet-50. No denoising queries and no image losses in the published training.
"""

custom_imports = dict(imports=["projects.petr"])
_base_ = [
    "configs/_base_/data/nuscenes_1600x900.py",
    "configs/_base_/schedule/adamw_cosine.py",
    "configs/_base_/runtime/default.py",
]

_range_m = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
_dim = 256

model = dict(
    type="PETR",
    preprocess=dict(type="ImageNormalizer", mean=(103.530, 116.280, 123.675), std=(1.0, 1.0, 1.0), channel_order="bgr"),
    grid_mask=dict(type="GridMask", probability=0.7, ratio=0.5),
    img_backbone=dict(
        type="ResNet",
        depth=50,
        style="caffe",
        out_indices=(2, 3),
        norm_eval=True,
        norm_frozen=True,
        dcn_stages=(False, False, True, True),
    ),
    img_neck=dict(type="SingleLevelFPN", in_channels=(1024, 2048), out_channels=_dim),
    pts_bbox_head=dict(
        type="PETRHead",
        in_channels=_dim,
        embed_dim=_dim,
        num_queries=900,
        num_classes=10,
        range_m=_range_m,
        position_range_m=(-61.2, -61.2, -10.0, 61.2, 61.2, 10.0),
        depth_count=64,
        transformer=dict(
            type="GlobalTransformer",
            embed_dim=_dim,
            layers=[dict(type="GlobalDecoderLayer", embed_dim=_dim, num_heads=8, hidden_dim=2048, dropout=0.1)] * 6,
        ),
        assigner=dict(type="HungarianAssigner3D", cls_weight=2.0, reg_weight=0.25),
        # The published weights have the box code of mmdet3d < 1.0.
        coder=dict(type="NMSFreeCoder", max_boxes=300, legacy_box_code=True),
        loss_cls=dict(type="FocalLoss", gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type="L1Loss", loss_weight=0.25),
    ),
)

_train_image = dict(
    _delete_=True,
    type="ImageTransform",
    size=(512, 1408),
    resize=(0.8, 1.0),
    crop_y=1.0,
    crop_x=(0.0, 1.0),
    flip=0.5,
    method="pil_bicubic",
)
_image = dict(_delete_=True, type="ImageTransform", size=(512, 1408), resize=0.9, crop_y=1.0, method="pil_bicubic")
train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        image=_train_image,
        transforms=[
            dict(type="AugmentReference", rotate_deg=(-22.5, 22.5), scale=(0.95, 1.05), flip_x=0.0, flip_y=0.0),
            dict(type="RangeFilter", x_m=(-51.2, 51.2), y_m=(-51.2, 51.2)),
        ],
    ),
)
val_dataloader = dict(dataset=dict(image=_image))
test_dataloader = dict(dataset=dict(image=_image))

# Total batch 8 (8 processes of 1), half a cosine down to 1e-3 of the rate after 500 steps of warm-up from a third.
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.1)), norm_decay_mult=1.0, bias_decay_mult=1.0),
    clip_grad=dict(max_norm=35.0, norm_type=2),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup=500, start_ratio=1 / 3, min_ratio=1e-3)]
custom_hooks = []
train_cfg = dict(max_epochs=24, val_interval_epochs=2)
