"""Faster R-CNN, ResNet-50 FPN, 41.5 M parameters.

Published: AP 37.4 on COCO val2017 after 12 epochs (mmdetection, configs/faster_rcnn/README.md, R-50-FPN pytorch 1x).
"""

_base_ = [
    "configs/_base_/model/faster_rcnn_r50.py",
    "configs/_base_/data/coco_1344.py",
    "configs/_base_/schedule/sgd_1x.py",
]
