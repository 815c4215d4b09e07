# COCO 2017 at 300 px: colours, expansion and mirror images as SSD trains.
_base_ = ["configs/_base_/data/coco_416.py"]

_size = (300, 300)
_changes = [dict(type="RandomDistort"), dict(type="RandomExpand"), dict(type="RandomFlip")]
train_dataloader = dict(dataset=dict(size=_size, transforms=_changes, last_transforms=_changes, close_epoch=None))
val_dataloader = dict(dataset=dict(size=_size))
test_dataloader = dict(dataset=dict(size=_size))
