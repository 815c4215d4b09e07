"""GFL, ResNet-50 FPN, 32.2 M parameters. Published: AP 40.2 on COCO val2017 after 12 epochs (mmdet's README)."""

_base_ = [
    "configs/_base_/model/gfl_r50.py",
    "configs/_base_/data/coco_1344.py",
    "configs/_base_/schedule/sgd_1x.py",
]
