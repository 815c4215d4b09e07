"""StreamPETR with ResNet-50 on nuScenes, 256x704, as published (arXiv 2303.11926).

Published on the validation split with 90 epochs: NDS .537, mAP .432 (README of exiawsh/StreamPETR). Recordings are cut
into halves and walked through frame by frame, the memory carried from step to step; ten groups of denoising queries; 2D
boxes and centres in the pictures as further losses.
"""

custom_imports = dict(imports=["projects.streampetr"])
_base_ = [
    "configs/_base_/data/nuscenes_704x256.py",
    "configs/_base_/schedule/adamw_cosine.py",
    "configs/_base_/runtime/default.py",
]

_range_m = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
_dim = 256
_cameras = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")

model = dict(
    type="StreamPETR",
    preprocess=dict(type="ImageNormalizer"),
    grid_mask=dict(type="GridMask", probability=0.7, ratio=0.5),
    img_backbone=dict(type="ResNet", depth=50, out_indices=(2, 3), norm_eval=True, norm_frozen=True),
    img_neck=dict(type="SingleLevelFPN", in_channels=(1024, 2048), out_channels=_dim),
    img_roi_head=dict(type="FocalHead", in_channels=_dim, num_classes=10),
    pts_bbox_head=dict(
        type="StreamPETRHead",
        in_channels=_dim,
        embed_dim=_dim,
        num_queries=644,
        num_propagated=256,
        memory_length=1024,
        top_k=256,
        num_classes=10,
        range_m=_range_m,
        position_range_m=(-61.2, -61.2, -10.0, 61.2, 61.2, 10.0),
        compat="official",
        denoising=dict(type="BoxDenoising", groups=10, noise_scale=1.0, split=0.75),
        transformer=dict(
            type="GlobalTransformer",
            embed_dim=_dim,
            layers=[dict(type="GlobalDecoderLayer", embed_dim=_dim, num_heads=8, hidden_dim=2048, dropout=0.1)] * 6,
        ),
        assigner=dict(
            type="HungarianAssigner3D", cls_weight=2.0, reg_weight=0.25, code_weights=(2, 2, 1, 1, 1, 1, 1, 1, 1, 1)
        ),
        coder=dict(type="NMSFreeCoder", max_boxes=300),
        loss_cls=dict(type="FocalLoss", gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type="L1Loss", loss_weight=0.25),
    ),
)

train_dataloader = dict(
    batch_size=2,
    sampler=dict(type="SceneStreamSampler", clip_frames=20),
    dataset=dict(
        frame="lidar",
        cameras=_cameras,
        class_balance=False,
        image=dict(rotate_deg=0.0),
        transforms=[
            dict(type="AugmentReference", rotate_deg=(-22.5, 22.5), scale=(0.95, 1.05), flip_x=0.0, flip_y=0.0),
            dict(type="RangeFilter", x_m=(-51.2, 51.2), y_m=(-51.2, 51.2)),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1, sampler=dict(type="SceneEvalSampler"), dataset=dict(frame="lidar", cameras=_cameras)
)
test_dataloader = val_dataloader
# Total batch 16 (8 processes of 2), half a cosine down to 1e-3 of the rate after 500 steps of warm-up from a third.
optim_wrapper = dict(
    optimizer=dict(lr=4e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.25)), norm_decay_mult=1.0, bias_decay_mult=1.0),
    clip_grad=dict(max_norm=35.0, norm_type=2),
)
param_scheduler = [dict(type="WarmupCosineLR", warmup=500, start_ratio=1 / 3, min_ratio=1e-3)]
custom_hooks = []
train_cfg = dict(max_epochs=90)
