"""PicoDet-L, 3.30 M parameters, 416 px. Published: AP 36.6 on COCO val2017 (README of PaddleDetection, 2021.10)."""

_base_ = ["configs/picodet/picodet_m_coco.py"]

model = dict(
    backbone=dict(width=1.25),
    neck=dict(in_channels=(160, 320, 640), out_channels=160),
    head=dict(network=dict(in_channels=160)),
)
