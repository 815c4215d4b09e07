"""PP-YOLOE-l, 52.2 M parameters in deploy form, 640 px.

Published: AP 52.9 on COCO val2017 for PP-YOLOE+ (from Objects365 weights; PaddleDetection's README).
"""

_base_ = [
    "configs/_base_/model/ppyoloe_crn.py",
    "configs/_base_/data/coco_640.py",
    "configs/_base_/schedule/yolox_300e.py",
]
