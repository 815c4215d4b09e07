"""YOLOX-Tiny, 5.06 M parameters, 416 px. Published: AP 32.8 on COCO val2017 (Megvii's README)."""

_base_ = [
    "configs/_base_/model/yolox.py",
    "configs/_base_/data/coco_416.py",
    "configs/_base_/schedule/yolox_300e.py",
]

model = dict(
    backbone=dict(depth=0.33, width=0.375),
    neck=dict(in_channels=(96, 192, 384), depth=0.33, out_channels=96),
    head=dict(network=dict(in_channels=96, feat_channels=96)),
)
