"""A PicoDet-style light detector on blood cells, from scratch."""

_base_ = [
    "configs/_base_/model/picodet.py",
    "configs/_base_/data/bccd_416x320.py",
    "configs/_base_/schedule/bccd.py",
]

model = dict(
    backbone=dict(width=0.5),
    neck=dict(in_channels=(48, 96, 192)),
    head=dict(network=dict(num_classes=3), decoder=dict(score_threshold=0.01, nms_iou=0.5)),
)
