"""EfficientDet-D2, 8.1 M parameters, 768 px.

Published: AP 43.5 on COCO val2017, 43.9 on test-dev, after 300 epochs (google/automl, efficientdet/README.md).
"""

_base_ = ["configs/efficientdet/efficientdet_d0_coco.py"]

_dataset = dict(dataset=dict(size=(768, 768)))
train_dataloader = _dataset
val_dataloader = _dataset
test_dataloader = _dataset
model = dict(
    backbone=dict(variant="b2"),
    neck=dict(in_channels=(48, 120, 352), out_channels=112, layers=5),
    head=dict(network=dict(in_channels=112, depth=3)),
)
