"""EfficientDet-D5, 33.6 M parameters (published of 90 classes: 33.7), 1280 px.

Published: AP 51.2 on COCO val2017, 51.5 on test-dev, after 300 epochs (google/automl, efficientdet/README.md).
"""

_base_ = ["configs/efficientdet/efficientdet_d0_coco.py"]

_dataset = dict(dataset=dict(size=(1280, 1280)))
train_dataloader = _dataset
val_dataloader = _dataset
test_dataloader = _dataset
model = dict(
    backbone=dict(variant="b5"),
    neck=dict(in_channels=(64, 176, 512), out_channels=288, layers=7),
    head=dict(network=dict(in_channels=288, depth=4)),
)
