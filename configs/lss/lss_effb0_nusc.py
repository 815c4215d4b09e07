"""LSS (Lift, Splat, Shoot, arXiv 2008.05711): vehicle segmentation from six cameras at 352x128 on nuScenes.

Published on the validation split: IoU .3207 in the paper, .3303 by the README of nv-tlabs/lift-splat-shoot.
EfficientNet-B0, 41 depths of 1 m, 200x200 cells of .5 m. The published training shows five of the six cameras, drawn at
random; this one all six.
"""

_base_ = ["configs/_base_/data/nuscenes_704x256.py", "configs/_base_/runtime/default.py"]

_image_size_px = (128, 352)
_grid = dict(type="BEVGrid", x_m=(-50.0, 50.0, 0.5), y_m=(-50.0, 50.0, 0.5), z_m=(-10.0, 10.0, 20.0))
_image = dict(
    type="ImageTransform",
    size=_image_size_px,
    resize=(0.193, 0.225),
    crop_y=(0.78, 1.0),
    crop_x=(0.0, 1.0),
    flip=0.5,
    rotate_deg=(-5.4, 5.4),
    method="pil_bilinear",
)

model = dict(
    type="BEVSegmenter",
    preprocess=dict(type="ImageNormalizer"),
    img_backbone=dict(type="EfficientNet", variant="b0", out_indices=(3, 4)),
    img_neck=dict(
        type="LSSFPN", in_channels=112 + 320, out_channels=512, scale=2, input_indices=(0, 1), extra_upsample=None
    ),
    img_view_transformer=dict(
        type="BEVDetView",
        in_channels=512,
        out_channels=64,
        depth_bins=dict(type="LinearDepthBins", low_m=4.0, high_m=45.0, step_m=1.0),
        grid=_grid,
        stride_px=16,
        image_size_px=_image_size_px,
        generation="dev2",
    ),
    img_bev_encoder_backbone=dict(type="BEVTrunk", in_channels=64, base_channels=64),
    img_bev_encoder_neck=dict(
        type="LSSFPN", in_channels=64 + 256, out_channels=128, scale=4, input_indices=(1, 3), extra_upsample=2
    ),
    channels=128,
)

train_dataloader = dict(batch_size=4, dataset=dict(image=dict(_delete_=True, **_image)))
val_dataloader = dict(
    batch_size=4,
    dataset=dict(
        image=dict(
            _delete_=True, type="ImageTransform", size=_image_size_px, resize=0.22, crop_y=0.89, method="pil_bilinear"
        ),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type="BEVSegmentationIoU", grid=_grid)
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="Adam", lr=1e-3, weight_decay=1e-7),
    clip_grad=dict(max_norm=5.0, norm_type=2),
)
train_cfg = dict(max_epochs=50)
