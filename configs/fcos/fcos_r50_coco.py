"""FCOS, ResNet-50 FPN, 32.0 M parameters. Published: AP 36.6 on COCO val2017 after 12 epochs (mmdet's README)."""

_base_ = [
    "configs/_base_/model/fcos_r50.py",
    "configs/_base_/data/coco_1344.py",
    "configs/_base_/schedule/sgd_1x.py",
]

# The published number is of Caffe's weights: BGR images, norms that are not trained.
model = dict(
    preprocess=dict(mean=(102.9801, 115.9465, 122.7717), std=(1.0, 1.0, 1.0), channel_order="bgr"),
    backbone=dict(style="caffe", norm_frozen=True),
)
