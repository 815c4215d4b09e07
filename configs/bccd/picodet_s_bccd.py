"""PicoDet-S on blood cells, from scratch."""

_base_ = [
    "configs/_base_/model/picodet.py",
    "configs/_base_/data/bccd_416x320.py",
    "configs/_base_/schedule/bccd.py",
]

model = dict(
    backbone=dict(width=0.75, ratios=(0.875, 0.5, 0.5, 0.5, 0.625, 0.5, 0.625, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)),
    neck=dict(in_channels=(96, 192, 384), out_channels=96),
    head=dict(
        network=dict(num_classes=3, in_channels=96, stacked_convs=2),
        decoder=dict(score_threshold=0.01, nms_iou=0.5),
    ),
)
