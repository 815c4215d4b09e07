"""YOLOX-Nano on blood cells, from scratch."""

_base_ = [
    "configs/_base_/model/yolox.py",
    "configs/_base_/data/bccd_416x320.py",
    "configs/_base_/schedule/bccd.py",
]

model = dict(
    backbone=dict(depth=0.33, width=0.25, depthwise=True),
    neck=dict(in_channels=(64, 128, 256), depth=0.33, depthwise=True, out_channels=64),
    head=dict(
        network=dict(num_classes=3, in_channels=64, feat_channels=64, depthwise=True),
        decoder=dict(score_threshold=0.01, nms_iou=0.5, max_boxes=100),
    ),
)
