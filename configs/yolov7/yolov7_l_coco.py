"""A YOLOv7-style detector with a lead-guided coarse head, 49.7 M parameters, 640 px.

Published for the original YOLOv7 of 36.9 M: AP 51.4 on COCO test-dev (arXiv 2207.02696, and its authors' README).
"""

_base_ = [
    "configs/_base_/model/yolov7.py",
    "configs/_base_/data/coco_640.py",
    "configs/_base_/schedule/yolox_300e.py",
]
