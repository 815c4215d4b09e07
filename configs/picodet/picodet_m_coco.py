"""PicoDet-M, 2.15 M parameters, 416 px.

Published: AP 34.8 on COCO val2017 (README of PaddleDetection, 2021.10; arXiv 2111.00902 has 34.3).
"""

_base_ = [
    "configs/_base_/model/picodet.py",
    "configs/_base_/data/coco_416.py",
    "configs/_base_/schedule/yolox_300e.py",
]
