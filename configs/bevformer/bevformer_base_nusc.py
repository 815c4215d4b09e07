"""BEVFormer-base on nuScenes as published (Li et al., ECCV 2022, arXiv 2203.17270).

ResNet-101 with deformable convolutions (start from an FCOS3D detector's weights: ``--cfg-options
load_from=fcos3d.pth``), four feature levels, 928x1600 images, a map of 200x200 cells, six encoder layers, three earlier
frames. Published on the validation split: NDS .517, mAP .416 (README of fundamentalvision/BEVFormer).
"""

_base_ = ["configs/bevformer/bevformer_tiny_nusc.py"]

_dim = 256
_compat = "official"
_encoder_layer = dict(
    type="BEVFormerLayer",
    embed_dim=_dim,
    hidden_dim=512,
    dropout=0.1,
    temporal=dict(type="TemporalSelfAttention", embed_dim=_dim, num_heads=8, num_points=4, compat=_compat),
    spatial=dict(
        type="SpatialCrossAttention", embed_dim=_dim, num_levels=4, num_heads=8, num_points=8, compat=_compat
    ),
)

model = dict(
    preprocess=dict(mean=(103.530, 116.280, 123.675), std=(1.0, 1.0, 1.0), channel_order="bgr"),
    img_backbone=dict(depth=101, style="caffe", out_indices=(1, 2, 3), dcn_stages=(False, False, True, True)),
    img_neck=dict(in_channels=(512, 1024, 2048), num_outs=4),
    pts_bbox_head=dict(transformer=dict(encoder=dict(bev_shape=(200, 200), layers=[_encoder_layer] * 6))),
)

_image = dict(size=(928, 1600), resize=1.0)
train_dataloader = dict(dataset=dict(image=_image, history=3, history_pool=4))
val_dataloader = dict(dataset=dict(image=_image))
test_dataloader = val_dataloader
