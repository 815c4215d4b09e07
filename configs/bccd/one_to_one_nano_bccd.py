"""A detector without suppression (Hungarian, one-to-one) of nano size on blood cells, from scratch."""

_base_ = [
    "configs/_base_/model/one_to_one.py",
    "configs/_base_/data/bccd_416x320.py",
    "configs/_base_/schedule/bccd.py",
]

_small = dict(num_classes=3, in_channels=64, feat_channels=64)
model = dict(
    backbone=dict(depth=0.33, width=0.25),
    neck=dict(in_channels=(64, 128, 256), depth=0.33, out_channels=64),
    head=dict(
        head=dict(network=_small, decoder=dict(max_boxes=100)),
        teacher=dict(network=_small),
    ),
)
