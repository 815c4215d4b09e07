"""A YOLOv7-style detector (ELAN, lead-guided coarse head) of nano size on blood cells, from scratch."""

_base_ = [
    "configs/_base_/model/yolov7.py",
    "configs/_base_/data/bccd_416x320.py",
    "configs/_base_/schedule/bccd.py",
]

# tools/anchors.py configs/bccd/yolov5_nano_bccd.py: mean IoU .885.
_anchors = (((26, 25), (57, 57), (70, 51)), ((55, 70), (66, 64), (77, 65)), ((70, 72), (83, 78), (142, 130)))
_levels = (64, 128, 256)
model = dict(
    backbone=dict(depth=0.5, width=0.25),
    neck=dict(in_channels=_levels, depth=0.33),
    head=dict(
        head=dict(
            network=dict(num_classes=3, in_channels=_levels),
            priors=dict(sizes_px=_anchors),
            decoder=dict(score_threshold=0.01, nms_iou=0.5, max_boxes=100),
        ),
        auxiliary=dict(num_classes=3, in_channels=(64, 128, 128)),
    ),
)
