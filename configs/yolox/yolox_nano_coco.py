"""YOLOX-Nano, 0.91 M parameters, 416 px. Published: AP 25.8 on COCO val2017 (Megvii's README)."""

_base_ = [
    "configs/_base_/model/yolox.py",
    "configs/_base_/data/coco_416.py",
    "configs/_base_/schedule/yolox_300e.py",
]

model = dict(
    backbone=dict(depth=0.33, width=0.25, depthwise=True),
    neck=dict(in_channels=(64, 128, 256), depth=0.33, depthwise=True, out_channels=64),
    head=dict(network=dict(in_channels=64, feat_channels=64, depthwise=True)),
)
