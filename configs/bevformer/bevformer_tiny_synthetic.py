"""A BEVFormer of 0.8 M parameters for the synthetic world, for two CPU cores.

Not a published network: a small backbone, one level at stride 8, a map of 50x50 cells, two encoder and three decoder
layers; class centres and depth on the images and class centres on the map as further losses, most queries begin at the
peaks of the latter, and boxes are refined along the viewing ray. The parts are those of the published ones, with their
defects mended (``compat="fixed"``). Recordings are walked through frame by frame, the map carried from step to step;
sixteen take turns, because a step of two frames learns little from four in a row of one recording.
Its twin without a past: ``train_dataloader.sampler.clip_frames=1 val_dataloader.sampler.type=EvalSampler``.
"""

_base_ = [
    "configs/_base_/data/synthetic_352x128.py",
    "configs/_base_/model/image_supervision.py",
    "configs/_base_/schedule/muon_one_frame.py",
    "configs/_base_/runtime/default.py",
]

_range_m = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
_grid = dict(type="BEVGrid", x_m=(-51.2, 51.2, 2.048), y_m=(-51.2, 51.2, 2.048), z_m=(-5.0, 3.0, 8.0))
_dim = 64

_encoder_layer = dict(
    type="BEVFormerLayer",
    embed_dim=_dim,
    hidden_dim=128,
    dropout=0.0,
    temporal=dict(type="TemporalSelfAttention", embed_dim=_dim, num_heads=4, num_points=4, dropout=0.0),
    spatial=dict(
        type="SpatialCrossAttention", embed_dim=_dim, num_levels=1, num_heads=4, num_points=4, dropout=0.0
    ),
)
_decoder_layer = dict(
    type="DetrDecoderLayer",
    embed_dim=_dim,
    num_heads=4,
    hidden_dim=128,
    dropout=0.0,
    cross_attention=dict(type="BEVCrossAttention", embed_dim=_dim, num_heads=4, num_points=4, dropout=0.0),
)

model = dict(
    type="BEVFormer",
    preprocess=dict(type="ImageNormalizer"),
    img_backbone=dict(type="UnshuffleNet", widths=(24, 48, 64, 96), blocks=(1, 1, 1, 1)),
    img_neck=dict(type="TopDownNeck", in_channels=(48, 64, 96), out_channels=_dim),
    pts_bbox_head=dict(
        type="BEVFormerHead",
        num_queries=50,
        proposals=dict(
            type="MapProposals",
            embed_dim=_dim,
            count=120,
            head=dict(
                type="CenterHead",
                in_channels=_dim,
                coder=dict(type="CenterCoder", grid=_grid, ray_aligned=True, mean_size_m="nuscenes"),
                shared_channels=_dim,
                head_channels=32,
                joint_regression=True,
                min_radius=1,
                regression_radius=1,
                loss_weights=dict(bbox=0.5),
            ),
        ),
        embed_dim=_dim,
        num_classes=10,
        transformer=dict(
            type="PerceptionTransformer",
            embed_dim=_dim,
            # Learned on few recordings, an absolute orientation is a name of the recording.
            use_motion_vector=False,
            encoder=dict(
                type="BEVFormerEncoder", layers=[_encoder_layer] * 2, bev_shape=(50, 50), range_m=_range_m
            ),
            layers=[_decoder_layer] * 3,
            refinement=dict(type="RayRefinement", range_m=_range_m, step_share=0.1),
        ),
        assigner=dict(type="HungarianAssigner3D", cls_weight=2.0, reg_weight=0.25),
        coder=dict(type="NMSFreeCoder", max_boxes=300),
        # Of three layers, and at first nearly noise: in full weight (2 and .25) they drown what the images and the map
        # are told directly.
        loss_cls=dict(type="FocalLoss", gamma=2.0, alpha=0.25, loss_weight=0.6),
        loss_bbox=dict(type="L1Loss", loss_weight=0.075),
    ),
)

train_dataloader = dict(batch_size=1, sampler=dict(type="SceneStreamSampler", turns=16))
val_dataloader = dict(batch_size=4, sampler=dict(type="SceneEvalSampler"))
test_dataloader = val_dataloader
train_cfg = dict(max_steps=6000)
