"""An EfficientDet-style detector (BiFPN) on EfficientNet-Lite0, on blood cells, from scratch."""

_base_ = [
    "configs/_base_/model/efficientdet_d0.py",
    "configs/_base_/data/bccd_416x320.py",
    "configs/_base_/schedule/bccd.py",
]

model = dict(
    backbone=dict(variant="lite0"),
    neck=dict(layers=2),
    head=dict(network=dict(num_classes=3, depth=2), decoder=dict(nms_iou=0.5, max_boxes=100)),
)
