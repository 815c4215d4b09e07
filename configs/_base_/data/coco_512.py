# COCO 2017 at 512 px: mirror images and scales of 0.1 to 2, no mosaic.
_base_ = ["configs/_base_/data/coco_416.py"]

_size = (512, 512)
_turned = [dict(type="RandomAffine", scale=(0.1, 2.0)), dict(type="RandomFlip")]
train_dataloader = dict(dataset=dict(size=_size, transforms=_turned, last_transforms=_turned, close_epoch=None))
val_dataloader = dict(dataset=dict(size=_size))
test_dataloader = dict(dataset=dict(size=_size))
