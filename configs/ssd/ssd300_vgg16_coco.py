"""SSD300, VGG-16, 34.3 M parameters.

Published: AP 25.5 on COCO val2017 after 120 epochs (mmdetection, configs/ssd/metafile.yml).
"""

_base_ = [
    "configs/_base_/model/ssd300.py",
    "configs/_base_/data/coco_300.py",
    "configs/_base_/schedule/yolox_300e.py",
]
