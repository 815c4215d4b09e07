"""YOLOX-M, 25.3 M parameters, 640 px. Published: AP 46.9 on COCO val2017 (Megvii's README)."""

_base_ = [
    "configs/_base_/model/yolox.py",
    "configs/_base_/data/coco_640.py",
    "configs/_base_/schedule/yolox_300e.py",
]

model = dict(
    backbone=dict(depth=0.67, width=0.75),
    neck=dict(in_channels=(192, 384, 768), depth=0.67, out_channels=192),
    head=dict(network=dict(in_channels=192, feat_channels=192)),
)
