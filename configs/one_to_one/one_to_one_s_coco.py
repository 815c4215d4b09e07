"""A detector without suppression, Hungarian one-to-one head beside a one-to-many teacher, 9.0 M parameters, 640 px.

Published for YOLOv10-S, whose pair of heads it has (another backbone): AP 46.3 on COCO val2017 (arXiv
2405.14458, and its authors' README).
"""

_base_ = [
    "configs/_base_/model/one_to_one.py",
    "configs/_base_/data/coco_640.py",
    "configs/_base_/schedule/yolox_300e.py",
]

_towers = dict(network=dict(in_channels=128, feat_channels=128))
model = dict(
    backbone=dict(depth=0.33, width=0.5),
    neck=dict(in_channels=(128, 256, 512), depth=0.33, out_channels=128),
    head=dict(head=_towers, teacher=_towers),
)
