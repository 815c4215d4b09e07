"""YOLOv3, Darknet-53, 61.9 M parameters, 416 px.

Published: AP 30.9 on COCO val2017 after 273 epochs (mmdetection, configs/yolo/metafile.yml, mstrain-416).
"""

_base_ = [
    "configs/_base_/model/yolov3.py",
    "configs/_base_/data/coco_416.py",
    "configs/_base_/schedule/yolox_300e.py",
]
