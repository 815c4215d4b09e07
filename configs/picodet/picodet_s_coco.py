"""A PicoDet-style light detector, 0.56 M parameters, 416 px.

Published for the original PicoDet-S of 0.99 M: AP 30.6 on COCO val2017 (arXiv 2111.00902); 30.7 in the README of
PaddleDetection 2.3, whose later PicoDets are larger.
"""

_base_ = [
    "configs/_base_/model/picodet.py",
    "configs/_base_/data/coco_416.py",
    "configs/_base_/schedule/yolox_300e.py",
]

model = dict(backbone=dict(width=0.5), neck=dict(in_channels=(48, 96, 192)))
