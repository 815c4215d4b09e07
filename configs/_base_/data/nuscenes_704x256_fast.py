# nuScenes at 704x256 for models that are trained here: the views of nuscenes_704x256.py read three times as fast
# (benchmarks/images.py). Not for published weights, which saw Pillow's pixels.
_base_ = ["configs/_base_/data/nuscenes_704x256.py"]
train_dataloader = dict(dataset=dict(image=dict(method="pyramid")))
val_dataloader = dict(dataset=dict(image=dict(method="pyramid")))
test_dataloader = val_dataloader
