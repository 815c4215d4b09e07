"""PicoDet on PP-LCNet of width 1.5, 3.10 M parameters, 416 px.

Published: AP 36.3 on COCO val2017 (README of PaddleDetection, 2021.10).
"""

_base_ = ["configs/picodet/picodet_m_coco.py"]

model = dict(
    backbone=dict(_delete_=True, type="LCNet", width=1.5),
    neck=dict(in_channels=(192, 384, 768)),
)
