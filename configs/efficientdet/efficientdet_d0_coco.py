"""EfficientDet-D0, 3.9 M parameters, 512 px.

Published: AP 34.3 on COCO val2017, 34.6 on test-dev, after 300 epochs (google/automl, efficientdet/README.md).
"""

_base_ = [
    "configs/_base_/model/efficientdet_d0.py",
    "configs/_base_/data/coco_512.py",
    "configs/_base_/schedule/yolox_300e.py",
]
