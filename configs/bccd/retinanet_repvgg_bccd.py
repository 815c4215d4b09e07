"""A narrow RetinaNet on a narrow RepVGG-A0, on blood cells, from scratch."""

_base_ = [
    "configs/_base_/model/retinanet_r50.py",
    "configs/_base_/data/bccd_416x320.py",
    "configs/_base_/schedule/bccd.py",
]

_strides = (8, 16, 32)
model = dict(
    backbone=dict(_delete_=True, type="RepVGG", variant="a0", width=0.5),
    neck=dict(in_channels=(48, 96, 640), out_channels=64, start_level=0, num_outs=3),
    head=dict(
        network=dict(
            num_classes=3, in_channels=64, feat_channels=64, stacked_convs=2, strides=_strides, norm=dict(type="BN")
        ),
        priors=dict(strides=_strides),
        decoder=dict(score_threshold=0.01),
    ),
)
