# COCO 2017 at 640 px: mosaic until the last 15 of 300 epochs, sizes of 448 to 832.
_base_ = ["configs/_base_/data/coco_416.py"]

_size = dict(dataset=dict(size=(640, 640)))
train_dataloader = dict(dataset=dict(size=[(side, side) for side in range(448, 833, 32)]))
val_dataloader = _size
test_dataloader = _size
