"""BEVDepth with ResNet-50 at 704x256 and two key frames on nuScenes (arXiv 2206.10092).

Published on the validation split, without CBGS: mAP .330, NDS .4355 (with a moving average of the weights .333, .441;
README of Megvii-BaseDetection/BEVDepth).
Ego frame. Batch 64: 8 processes of 8; batches of one collapse, because the batch norms learn from them. The published
configuration means to weigh velocities by 1.0, but sets a key that nothing reads: they are weighed by .5.
Published weights are renamed by ``tools/convert_checkpoint.py``.
"""

_base_ = [
    "configs/_base_/data/nuscenes_704x256.py",
    "configs/_base_/schedule/adamw_cosine.py",
    "configs/_base_/runtime/default.py",
]

_image_size_px = (256, 704)
_grid = dict(type="BEVGrid", x_m=(-51.2, 51.2, 0.8), y_m=(-51.2, 51.2, 0.8), z_m=(-5.0, 3.0, 8.0))
_depth_bins = dict(type="LinearDepthBins", low_m=2.0, high_m=58.0, step_m=0.5)
_context_channels = 80
_grid_channels = 2 * _context_channels

model = dict(
    type="LiftSplatDetector",
    preprocess=dict(type="ImageNormalizer"),
    img_backbone=dict(type="ResNet", depth=50, frozen_stages=0),
    img_neck=dict(
        type="SecondFPN",
        in_channels=(256, 512, 1024, 2048),
        out_channels=(128, 128, 128, 128),
        upsample_strides=(0.25, 0.5, 1, 2),
    ),
    img_view_transformer=dict(
        type="BEVDepthView",
        depth_net=dict(
            type="DepthNet", in_channels=512, mid_channels=512, context_channels=_context_channels, depth_channels=112
        ),
        out_channels=_context_channels,
        depth_bins=_depth_bins,
        grid=_grid,
        stride_px=16,
        image_size_px=_image_size_px,
    ),
    img_bev_encoder_backbone=dict(type="BEVTrunk", in_channels=_grid_channels, base_channels=160),
    img_bev_encoder_neck=dict(
        type="SecondFPN",
        in_channels=(_grid_channels, 160, 320, 640),
        out_channels=(64, 64, 64, 64),
        upsample_strides=(1, 2, 4, 8),
    ),
    pts_bbox_head=dict(
        type="CenterPointHead",
        in_channels=256,
        coder=dict(
            type="CenterPointCoder",
            grid=_grid,
            out_size_factor=4,
            center_range_m=(-61.2, -61.2, -10.0, 61.2, 61.2, 10.0),
            frame="ego",
        ),
        suppression=[
            dict(type="CircleSuppression", squared_radius_m2=4.0),
            dict(type="CircleSuppression", squared_radius_m2=12.0),
            dict(type="CircleSuppression", squared_radius_m2=10.0),
            dict(type="CircleSuppression", squared_radius_m2=1.0),
            dict(type="CircleSuppression", squared_radius_m2=0.85),
            dict(type="CircleSuppression", squared_radius_m2=0.175),
        ],
        code_weights=(1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0.5),
    ),
    num_previous=1,
    alignment="lift",
    depth_supervision=dict(type="DepthSupervision", weight=3.0, form="softmax"),
)

train_dataloader = dict(
    dataset=dict(
        image=dict(resize=(0.386, 0.55)),
        history=1,
        class_balance=False,
        load_points=True,
        transforms=[
            dict(type="AugmentReference", rotate_deg=(-22.5, 22.5), scale=(0.95, 1.05)),
            dict(type="RangeFilter", x_m=(-51.2, 51.2), y_m=(-51.2, 51.2)),
        ],
    ),
)
val_dataloader = dict(dataset=dict(history=1))
test_dataloader = val_dataloader

# A tenth of the rate after 19 and after 23 epochs of 440 steps.
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, weight_decay=1e-7),
    paramwise_cfg=dict(norm_decay_mult=1.0, bias_decay_mult=1.0),
    clip_grad=dict(max_norm=5.0, norm_type=2),
)
param_scheduler = [dict(type="MultiStepLR", milestones=[8360, 10120], by_epoch=False)]
custom_hooks = []
train_cfg = dict(max_epochs=24, val_interval_epochs=24)
