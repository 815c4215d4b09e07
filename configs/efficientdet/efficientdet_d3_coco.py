"""EfficientDet-D3, 12.0 M parameters, 896 px.

Published: AP 46.8 on COCO val2017, 47.2 on test-dev, after 300 epochs (google/automl, efficientdet/README.md).
"""

_base_ = ["configs/efficientdet/efficientdet_d0_coco.py"]

_dataset = dict(dataset=dict(size=(896, 896)))
train_dataloader = _dataset
val_dataloader = _dataset
test_dataloader = _dataset
model = dict(
    backbone=dict(variant="b3"),
    neck=dict(in_channels=(48, 136, 384), out_channels=160, layers=6),
    head=dict(network=dict(in_channels=160, depth=4)),
)
