"""PP-YOLOE-m, 23.4 M parameters in deploy form, 640 px.

Published: AP 49.8 on COCO val2017 for PP-YOLOE+ (from Objects365 weights; PaddleDetection's README).
"""

_base_ = ["configs/ppyoloe/ppyoloe_l_coco.py"]

model = dict(
    backbone=dict(depth=0.67, width=0.75),
    neck=dict(in_channels=(192, 384, 768), depth=0.67, width=0.75),
    head=dict(network=dict(in_channels=(144, 288, 576))),
)
