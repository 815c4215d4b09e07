"""BEVFormer-small on nuScenes as published (Li et al., ECCV 2022, arXiv 2203.17270).

As tiny, but ResNet-101 with deformable convolutions (start from an FCOS3D detector's weights: ``--cfg-options
load_from=fcos3d.pth``), 736x1280 images and a map of 150x150 cells. Published on the validation split: NDS .479, mAP
.370 (README of fundamentalvision/BEVFormer).
"""

_base_ = ["configs/bevformer/bevformer_tiny_nusc.py"]

model = dict(
    preprocess=dict(mean=(103.530, 116.280, 123.675), std=(1.0, 1.0, 1.0), channel_order="bgr"),
    img_backbone=dict(depth=101, style="caffe", dcn_stages=(False, False, True, True)),
    pts_bbox_head=dict(transformer=dict(encoder=dict(bev_shape=(150, 150)))),
)

_image = dict(size=(736, 1280), resize=0.8)
train_dataloader = dict(dataset=dict(image=_image))
val_dataloader = dict(dataset=dict(image=_image))
test_dataloader = val_dataloader
