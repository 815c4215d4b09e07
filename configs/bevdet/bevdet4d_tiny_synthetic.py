# A small BEVDet4D (two frames, BEVDet's own encoders and head) for the synthetic world. Recordings are walked through
# frame by frame, the last frame's grid carried from step to step and warped. Its twin with one frame is
# bevdet4d_single_tiny_synthetic.py.
_base_ = [
    "configs/_base_/data/synthetic_352x128.py",
    "configs/_base_/model/image_supervision.py",
    "configs/_base_/schedule/muon_one_frame.py",
    "configs/_base_/runtime/default.py",
]
_image_size_px = (128, 352)
_grid = dict(type="BEVGrid", x_m=(-48.0, 48.0, 1.0), y_m=(-48.0, 48.0, 1.0), z_m=(-5.0, 3.0, 8.0))
_channels = 32

model = dict(
    type="LiftSplatDetector",
    preprocess=dict(type="ImageNormalizer"),
    img_backbone=dict(type="UnshuffleNet", widths=(24, 48, 64, 96), blocks=(1, 1, 1, 1)),
    img_neck=dict(type="TopDownNeck", in_channels=(48, 64, 96), out_channels=48),
    img_view_transformer=dict(
        type="BEVDetView",
        in_channels=48,
        out_channels=_channels,
        depth_bins=dict(type="LinearDepthBins", low_m=2.0, high_m=58.0, step_m=1.0),
        grid=_grid,
        stride_px=8,
        image_size_px=_image_size_px,
        compat=None,
    ),
    pre_process_net=dict(type="BEVResNet", in_channels=_channels, channels=(_channels,), blocks=(1,), strides=(1,)),
    img_bev_encoder_backbone=dict(type="BEVResNet", in_channels=2 * _channels, channels=(48, 64, 96), blocks=(1, 1, 1)),
    img_bev_encoder_neck=dict(type="LSSFPN", in_channels=48 + 96, out_channels=48),
    pts_bbox_head=dict(
        type="CenterPointHead",
        in_channels=48,
        coder=dict(type="CenterPointCoder", grid=_grid, out_size_factor=1),
        shared_channels=32,
        head_channels=32,
        suppression=[
            dict(type="CircleSuppression", squared_radius_m2=2.25),
            dict(type="CircleSuppression", squared_radius_m2=4.0),
            dict(type="CircleSuppression", squared_radius_m2=9.0),
            dict(type="CircleSuppression", squared_radius_m2=0.5),
            dict(type="CircleSuppression", squared_radius_m2=0.36),
            dict(type="CircleSuppression", squared_radius_m2=0.16),
        ],
        code_weights=(1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
        score_threshold=0.02,
    ),
    num_previous=1,
    alignment="warp",
    compat=None,
    depth_supervision=dict(type="DepthSupervision", weight=1.0, form="softmax"),
    image_supervision=dict(
        image_head=dict(in_channels=48, hidden_channels=48, ground_m=None), weights=dict(depth=0.0)
    ),
)
train_dataloader = dict(batch_size=1, sampler=dict(type="SceneStreamSampler", turns=16))
val_dataloader = dict(batch_size=4, sampler=dict(type="SceneEvalSampler"))
test_dataloader = val_dataloader
# A CenterPoint head is convolutions, too.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(pts_bbox_head=dict(lr_mult=1.0))))
train_cfg = dict(max_steps=5000)
