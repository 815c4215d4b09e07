"""YOLOX-S, 9.0 M parameters, 640 px. Published: AP 40.5 on COCO val2017 (Megvii's README)."""

_base_ = [
    "configs/_base_/model/yolox.py",
    "configs/_base_/data/coco_640.py",
    "configs/_base_/schedule/yolox_300e.py",
]

model = dict(
    backbone=dict(depth=0.33, width=0.5),
    neck=dict(in_channels=(128, 256, 512), depth=0.33, out_channels=128),
    head=dict(network=dict(in_channels=128, feat_channels=128)),
)
