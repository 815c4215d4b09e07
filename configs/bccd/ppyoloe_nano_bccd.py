"""A PP-YOLOE-style (TAL) detector of nano size on blood cells, from scratch."""

_base_ = [
    "configs/_base_/model/ppyoloe.py",
    "configs/_base_/data/bccd_416x320.py",
    "configs/_base_/schedule/bccd.py",
]

model = dict(
    backbone=dict(depth=0.33, width=0.25),
    neck=dict(in_channels=(64, 128, 256), depth=0.33, out_channels=64),
    head=dict(
        network=dict(num_classes=3, in_channels=64, feat_channels=64),
        decoder=dict(nms_iou=0.5, max_boxes=100),
    ),
)
