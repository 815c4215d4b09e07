"""BEVDet4D with ResNet-50 at 704x256 on nuScenes, first generation (arXiv 2203.17054).

Published on the validation split, with CBGS: mAP .322, NDS .457 (README of HuangJunJie2017/BEVDet). The earlier
frame is the previous key frame here; the authors draw camera sweeps .15 to .8 s back.
"""

_base_ = ["configs/bevdet/bevdet_r50_nusc.py"]

_channels = 64

model = dict(
    num_previous=1,
    alignment="warp",
    pre_process_net=dict(type="BEVResNet", in_channels=_channels, channels=(_channels,), blocks=(2,), strides=(1,)),
    img_bev_encoder_backbone=dict(in_channels=2 * _channels, channels=(128, 256, 512)),
    pts_bbox_head=dict(code_weights=(1, 1, 1, 1, 1, 1, 1, 1, 1, 1)),
)
train_dataloader = dict(dataset=dict(history=1))
val_dataloader = dict(dataset=dict(history=1))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=25, val_interval_epochs=25)
