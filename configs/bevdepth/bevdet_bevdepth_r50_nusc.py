"""BEVDepth as BEVDet's first generation builds it, with ResNet-50 at 704x256 on nuScenes.

Published on the validation split, with CBGS: mAP .333, NDS .406 (README of HuangJunJie2017/BEVDet). LiDAR points
supervise the depth in training only.
"""

_base_ = ["configs/bevdet/bevdet_r50_nusc.py"]

model = dict(
    img_view_transformer=dict(type="BEVDetDepthView"),
    depth_supervision=dict(type="DepthSupervision", weight=100.0, form="sigmoid"),
)
train_dataloader = dict(dataset=dict(load_points=True))
