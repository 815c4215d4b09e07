"""RetinaNet, ResNet-50 FPN, 37.7 M parameters. Published: AP 36.5 on COCO val2017 after 12 epochs (mmdet's README)."""

_base_ = [
    "configs/_base_/model/retinanet_r50.py",
    "configs/_base_/data/coco_1344.py",
    "configs/_base_/schedule/sgd_1x.py",
]
