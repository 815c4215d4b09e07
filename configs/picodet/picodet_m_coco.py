"""A PicoDet-style light detector, 1.53 M parameters, 416 px.

Published for the original PicoDet-M of 2.15 M: AP 34.3 on COCO val2017 (arXiv 2111.00902); 34.8 in the README of
PaddleDetection 2.3, whose later PicoDets are larger.
"""

_base_ = ["configs/picodet/picodet_s_coco.py"]

model = dict(
    backbone=dict(width=1.0),
    neck=dict(in_channels=(116, 232, 464), out_channels=128),
    head=dict(network=dict(in_channels=128, feat_channels=128)),
)
