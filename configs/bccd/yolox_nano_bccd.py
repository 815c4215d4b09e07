"""YOLOX-Nano on blood cells, from scratch."""

_base_ = [
    "configs/yolox/yolox_nano_coco.py",
    "configs/_base_/data/bccd_416x320.py",
    "configs/_base_/schedule/bccd.py",
]

model = dict(head=dict(network=dict(num_classes=3), decoder=dict(score_threshold=0.01, nms_iou=0.5, max_boxes=100)))
