"""PicoDet-S, 0.99 M parameters, 416 px.

Published: AP 30.7 on COCO val2017 (README of PaddleDetection, 2021.10; arXiv 2111.00902 has 30.6).
"""

_base_ = ["configs/picodet/picodet_m_coco.py"]

model = dict(
    backbone=dict(width=0.75, ratios=(0.875, 0.5, 0.5, 0.5, 0.625, 0.5, 0.625, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)),
    neck=dict(in_channels=(96, 192, 384), out_channels=96),
    head=dict(network=dict(in_channels=96, stacked_convs=2)),
)
