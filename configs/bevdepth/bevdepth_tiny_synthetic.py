# A small BEVDepth (camera-aware depth network, LiDAR depth supervision, two key frames) for the synthetic world.
_base_ = ["configs/bevdet/bevdet4d_tiny_synthetic.py"]
_image_size_px = (128, 352)
_grid = dict(type="BEVGrid", x_m=(-48.0, 48.0, 1.0), y_m=(-48.0, 48.0, 1.0), z_m=(-5.0, 3.0, 8.0))
_channels = 32

model = dict(
    pre_process_net=None,
    img_view_transformer=dict(
        _delete_=True,
        type="BEVDepthView",
        depth_net=dict(
            type="DepthNet", in_channels=48, mid_channels=48, context_channels=_channels, depth_channels=56, dropout=0.0
        ),
        out_channels=_channels,
        depth_bins=dict(type="LinearDepthBins", low_m=2.0, high_m=58.0, step_m=1.0),
        grid=_grid,
        stride_px=8,
        image_size_px=_image_size_px,
        compat=None,
    ),
    img_bev_encoder_backbone=dict(_delete_=True, type="BEVTrunk", in_channels=2 * _channels, base_channels=48),
    img_bev_encoder_neck=dict(
        _delete_=True,
        type="SecondFPN",
        in_channels=(2 * _channels, 48, 96, 192),
        out_channels=(16, 16, 16, 16),
        upsample_strides=(1, 2, 4, 8),
    ),
    pts_bbox_head=dict(in_channels=64),
    depth_supervision=dict(weight=3.0),
)
