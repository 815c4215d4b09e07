# A 0.7 M parameter lift-splat detector (BEVDet's parts, BEVDepth's depth supervision) for the synthetic world:
# what `make demo` trains, in minutes on two CPU cores.
_base_ = [
    "configs/_base_/data/synthetic_352x128.py",
    "configs/_base_/schedule/adamw_cosine.py",
    "configs/_base_/runtime/default.py",
]
_depth_bins = dict(type="LogDepthBins", low_m=2.0, high_m=58.0, count=32)
_grid = dict(type="BEVGrid", x_m=(-51.2, 51.2, 1.024), y_m=(-51.2, 51.2, 1.024), z_m=(-5.0, 3.0, 8.0))
model = dict(
    type="BEVDet",
    preprocess=dict(type="ImageNormalizer"),
    img_backbone=dict(type="UnshuffleNet", widths=(24, 48, 64, 96), blocks=(1, 1, 1, 1)),
    img_neck=dict(type="TopDownNeck", in_channels=(48, 64, 96), out_channels=48),
    img_view_transformer=dict(
        type="LiftSplat",
        in_channels=48,
        out_channels=32,
        depth_bins=_depth_bins,
        grid=_grid,
        stride_px=8,
        hidden_channels=48,
        calibration_channels=True,
        ray_channels=True,
        normalize=True,
    ),
    bev_encoder=dict(type="BEVEncoder", in_channels=36, widths=(32, 64, 96), blocks=(1, 1)),
    pts_bbox_head=dict(
        type="CenterHead",
        in_channels=32,
        coder=dict(type="CenterCoder", grid=_grid, ray_aligned=True, mean_size_m="nuscenes"),
        shared_channels=32,
        head_channels=32,
        joint_regression=True,
        regression_radius=1,
        loss_weights=dict(bbox=0.5),
        nms_radius_m=dict(
            car=1.5, truck=2.0, construction_vehicle=2.0, bus=3.0, trailer=3.0, barrier=0.7, motorcycle=0.6,
            bicycle=0.6, pedestrian=0.4, traffic_cone=0.4,
        ),
    ),
    depth_loss_weight=1.0,
    measured_share=0.25,
    mirror_test="lidar",
    image_evidence=0.2,
    img_center_head=dict(
        type="ImageCenterHead", in_channels=48, hidden_channels=48, num_classes=10, depth_bins=_depth_bins, stride_px=8
    ),
)
# Many small steps: at equal samples one frame a process learned most, and Muon more than AdamW.
optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="bfloat16",
    optimizer=dict(_delete_=True, type="MuonAdamW", lr=1e-2, weight_decay=0.01),
)
train_dataloader = dict(batch_size=1)
train_cfg = dict(max_steps=2330)
