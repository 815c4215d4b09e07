"""PP-YOLOE-x, 98.4 M parameters in deploy form, 640 px.

Published: AP 54.7 on COCO val2017 for PP-YOLOE+ (from Objects365 weights; PaddleDetection's README).
"""

_base_ = ["configs/ppyoloe/ppyoloe_l_coco.py"]

model = dict(
    backbone=dict(depth=1.33, width=1.25),
    neck=dict(in_channels=(320, 640, 1280), depth=1.33, width=1.25),
    head=dict(network=dict(in_channels=(240, 480, 960))),
)
