"""A StreamPETR of 0.7 M parameters for the synthetic world, for two CPU cores.

Not a published network: a small backbone, tokens at stride 8, three decoder layers, 50 queries remembered of a frame;
class centres and depth on the images as further losses, most fresh queries begin at the peaks of those, and boxes are
refined along the viewing ray. Otherwise the head is StreamPETR's. Recordings are walked through frame by frame, sixteen
in turn, the memory carried from step to step. Its twin without a past:
``train_dataloader.sampler.clip_frames=1 val_dataloader.sampler.type=EvalSampler``.
"""

custom_imports = dict(imports=["projects.streampetr"])
_base_ = [
    "configs/_base_/data/synthetic_352x128.py",
    "configs/_base_/model/image_supervision.py",
    "configs/_base_/schedule/muon_one_frame.py",
    "configs/_base_/runtime/default.py",
]

_range_m = (-56.0, -56.0, -5.0, 56.0, 56.0, 3.0)
_dim = 64

model = dict(
    type="StreamPETR",
    preprocess=dict(type="ImageNormalizer"),
    img_backbone=dict(type="UnshuffleNet", widths=(24, 48, 64, 96), blocks=(1, 1, 1, 1)),
    img_neck=dict(type="TopDownNeck", in_channels=(48, 64, 96), out_channels=_dim),
    pts_bbox_head=dict(
        type="StreamPETRHead",
        in_channels=_dim,
        embed_dim=_dim,
        num_queries=50,
        num_peaks=120,
        num_propagated=50,
        memory_length=200,
        top_k=50,
        num_classes=10,
        range_m=_range_m,
        refinement=dict(type="RayRefinement", range_m=_range_m, step_share=0.1),
        position_range_m=(-61.2, -61.2, -10.0, 61.2, 61.2, 10.0),
        depth_count=32,
        stride_px=8,
        num_branches=3,
        denoising=dict(type="BoxDenoising", groups=5),
        transformer=dict(
            type="GlobalTransformer",
            embed_dim=_dim,
            layers=[dict(type="GlobalDecoderLayer", embed_dim=_dim, num_heads=2, hidden_dim=128, dropout=0.0)] * 3,
        ),
        assigner=dict(
            type="HungarianAssigner3D", cls_weight=2.0, reg_weight=0.25, code_weights=(2, 2, 1, 1, 1, 1, 1, 1, 1, 1)
        ),
        coder=dict(type="NMSFreeCoder", max_boxes=300),
        # Of three layers, and at first nearly noise: in full weight (2 and .25) they drown what the images are told.
        loss_cls=dict(type="FocalLoss", gamma=2.0, alpha=0.25, loss_weight=0.6),
        loss_bbox=dict(type="L1Loss", loss_weight=0.075),
    ),
)

train_dataloader = dict(batch_size=1, sampler=dict(type="SceneStreamSampler", turns=16))
val_dataloader = dict(batch_size=4, sampler=dict(type="SceneEvalSampler"))
test_dataloader = val_dataloader
train_cfg = dict(max_steps=6000)
