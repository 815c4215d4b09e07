"""EfficientDet-D4, 20.7 M parameters, 1024 px.

Published: AP 49.3 on COCO val2017, 49.7 on test-dev, after 300 epochs (google/automl, efficientdet/README.md).
"""

_base_ = ["configs/efficientdet/efficientdet_d0_coco.py"]

_dataset = dict(dataset=dict(size=(1024, 1024)))
train_dataloader = _dataset
val_dataloader = _dataset
test_dataloader = _dataset
model = dict(
    backbone=dict(variant="b4"),
    neck=dict(in_channels=(56, 160, 448), out_channels=224, layers=7),
    head=dict(network=dict(in_channels=224, depth=4)),
)
