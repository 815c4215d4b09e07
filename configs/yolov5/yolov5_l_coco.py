"""A YOLOv5-style detector of size l, 46.6 M parameters, 640 px.

Published for the original: AP 49.0 on COCO val2017 (its authors' README).
"""

_base_ = [
    "configs/_base_/model/yolov5.py",
    "configs/_base_/data/coco_640.py",
    "configs/_base_/schedule/yolox_300e.py",
]

# Blocks and shortcuts of release 6.
model = dict(backbone=dict(blocks=(3, 6, 9, 3), last_shortcut=True))
