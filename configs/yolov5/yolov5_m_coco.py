"""A YOLOv5-style detector of size m, 21.2 M parameters, 640 px.

Published for the original: AP 45.4 on COCO val2017 (its authors' README).
"""

_base_ = ["configs/yolov5/yolov5_l_coco.py"]

model = dict(
    backbone=dict(depth=0.67, width=0.75),
    neck=dict(in_channels=(192, 384, 768), depth=0.67),
    head=dict(network=dict(in_channels=(192, 384, 768))),
)
