# COCO 2017 within 800x1344 px, mirror images alone: the classical detectors on ResNet.
_base_ = ["configs/_base_/data/coco_416.py"]

_size = (800, 1344)
_turned = [dict(type="RandomFlip")]
train_dataloader = dict(
    batch_size=2, dataset=dict(size=_size, transforms=_turned, last_transforms=_turned, close_epoch=None)
)
val_dataloader = dict(batch_size=2, dataset=dict(size=_size))
test_dataloader = dict(batch_size=2, dataset=dict(size=_size))
