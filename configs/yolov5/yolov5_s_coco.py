"""A YOLOv5-style detector of size s, 7.2 M parameters, 640 px.

Published for the original: AP 37.4 on COCO val2017 (its authors' README).
"""

_base_ = ["configs/yolov5/yolov5_l_coco.py"]

model = dict(
    backbone=dict(depth=0.33, width=0.5),
    neck=dict(in_channels=(128, 256, 512), depth=0.33),
    head=dict(network=dict(in_channels=(128, 256, 512))),
)
