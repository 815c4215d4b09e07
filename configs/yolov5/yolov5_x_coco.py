"""A YOLOv5-style detector of size x, 86.7 M parameters, 640 px.

Published for the original: AP 50.7 on COCO val2017 (its authors' README).
"""

_base_ = ["configs/yolov5/yolov5_l_coco.py"]

model = dict(
    backbone=dict(depth=1.33, width=1.25),
    neck=dict(in_channels=(320, 640, 1280), depth=1.33),
    head=dict(network=dict(in_channels=(320, 640, 1280))),
)
