"""EfficientDet-D1, 6.6 M parameters, 640 px.

Published: AP 40.2 on COCO val2017, 40.5 on test-dev, after 300 epochs (google/automl, efficientdet/README.md).
"""

_base_ = ["configs/efficientdet/efficientdet_d0_coco.py"]

_dataset = dict(dataset=dict(size=(640, 640)))
train_dataloader = _dataset
val_dataloader = _dataset
test_dataloader = _dataset
model = dict(
    backbone=dict(variant="b1"),
    neck=dict(in_channels=(40, 112, 320), out_channels=88, layers=4),
    head=dict(network=dict(in_channels=88, depth=3)),
)
