"""BEVDet with ResNet-50 at 704x256 on nuScenes, second generation (branches dev2.1 and dev3.0 of the authors).

Published on the validation split, without CBGS: mAP .283, NDS .350 (README of HuangJunJie2017/BEVDet at dev2.1;
users report .274 and .329 in its issue 234). Ego frame, box code of mmdet3d >= 1.0, one head for all ten classes, a
moving average of the weights. Batch 64: 8 processes of 8.
"""

_base_ = ["configs/bevdet/bevdet_r50_nusc.py"]

_grid = dict(type="BEVGrid", x_m=(-51.2, 51.2, 0.8), y_m=(-51.2, 51.2, 0.8), z_m=(-5.0, 3.0, 8.0))
_classes = (
    *("car", "truck", "construction_vehicle", "bus", "trailer"),
    *("barrier", "motorcycle", "bicycle", "pedestrian", "traffic_cone"),
)

model = dict(
    img_neck=dict(out_channels=256),
    img_view_transformer=dict(in_channels=256, grid=_grid, generation="dev2"),
    pts_bbox_head=dict(
        tasks=(_classes,),
        coder=dict(grid=_grid, legacy_box_code=False, frame="ego"),
        suppression=[
            dict(
                type="RotatedSuppression",
                overlap=0.2,
                size_factors=(1.0, 0.7, 0.7, 0.4, 0.55, 1.1, 1.0, 1.0, 1.5, 3.5),
                max_boxes=500,
            ),
        ],
        split_bbox_loss=False,
    ),
)
train_dataloader = dict(dataset=dict(frame="ego", class_balance=False))
val_dataloader = dict(dataset=dict(frame="ego", image=dict(resize=0.44)))
test_dataloader = val_dataloader

# The rate stays constant after the warm-up, in effect.
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, weight_decay=1e-7),
    clip_grad=dict(_delete_=True, max_norm=5.0, norm_type=2),
)
param_scheduler = [dict(type="LinearLR", start_factor=1e-3, begin=0, end=200, by_epoch=False)]
custom_hooks = [dict(type="EMAHook", decay=0.999, ramp_steps=2000)]
