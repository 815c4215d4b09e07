"""PP-YOLOE-s, 7.93 M parameters in deploy form, 640 px.

Published: AP 43.7 on COCO val2017 for PP-YOLOE+ (from Objects365 weights; PaddleDetection's README).
"""

_base_ = ["configs/ppyoloe/ppyoloe_l_coco.py"]

model = dict(
    backbone=dict(depth=0.33, width=0.5),
    neck=dict(in_channels=(128, 256, 512), depth=0.33, width=0.5),
    head=dict(network=dict(in_channels=(96, 192, 384))),
)
