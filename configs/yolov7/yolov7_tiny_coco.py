"""A small YOLOv7-style detector with a lead-guided coarse head, 5.0 M parameters, 640 px.

Published for the original YOLOv7-tiny of 6.2 M: AP 38.7 on COCO test-dev (arXiv 2207.02696; not looked up again).
"""

_base_ = ["configs/yolov7/yolov7_l_coco.py"]

_levels = (96, 192, 384)
model = dict(
    backbone=dict(depth=0.5, width=0.375, activation="leaky_relu"),
    neck=dict(in_channels=_levels, depth=0.33, activation="leaky_relu"),
    head=dict(head=dict(network=dict(in_channels=_levels)), auxiliary=dict(in_channels=(96, 192, 192))),
)
