"""A small Faster R-CNN (ResNet-18 of half the width) on blood cells, from scratch."""

_base_ = [
    "configs/_base_/model/faster_rcnn_r50.py",
    "configs/_base_/data/bccd_416x320.py",
    "configs/_base_/schedule/bccd.py",
]

_strides = (8, 16, 32)
model = dict(
    backbone=dict(depth=18, base_channels=32, out_indices=(1, 2, 3), frozen_stages=-1, norm_eval=False),
    neck=dict(in_channels=(64, 128, 256), out_channels=64, num_outs=3),
    head=dict(
        rpn=dict(
            network=dict(in_channels=64, feat_channels=64),
            priors=dict(strides=_strides, scales=(5,)),
            decoder=dict(level_candidates=300, max_boxes=100),
        ),
        training_proposals=dict(level_candidates=500, max_boxes=200),
        regions=dict(
            features=dict(strides=_strides),
            network=dict(num_classes=3, in_channels=64, width=256),
            criterion=dict(sampler=dict(count=128)),
            decoder=dict(score_threshold=0.01),
        ),
    ),
)
