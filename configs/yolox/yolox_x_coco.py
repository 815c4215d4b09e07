"""YOLOX-X, 99.1 M parameters, 640 px. Published: AP 51.1 on COCO val2017 (Megvii's README)."""

_base_ = [
    "configs/_base_/model/yolox.py",
    "configs/_base_/data/coco_640.py",
    "configs/_base_/schedule/yolox_300e.py",
]

model = dict(
    backbone=dict(depth=1.33, width=1.25),
    neck=dict(in_channels=(320, 640, 1280), depth=1.33, out_channels=320),
    head=dict(network=dict(in_channels=320, feat_channels=320)),
)
