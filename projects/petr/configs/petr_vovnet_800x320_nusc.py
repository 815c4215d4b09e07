"""PETR with VoVNet-99 on nuScenes, 320x800 (arXiv 2203.05625).

Published on the validation split: NDS .426, mAP .378 (README of megvii-research/PETR). Starts from the weights of an
FCOS3D detector with this backbone.
"""

_base_ = ["petr_r50_p4_nusc.py"]

model = dict(
    preprocess=dict(std=(57.375, 57.120, 58.395)),
    img_backbone=dict(
        _delete_=True, type="VoVNet", spec="V-99-eSE", out_indices=(2, 3), frozen_stages=-1, norm_eval=True
    ),
    img_neck=dict(in_channels=(768, 1024)),
)
train_dataloader = dict(dataset=dict(image=dict(size=(320, 800), resize=(0.47, 0.625))))
val_dataloader = dict(dataset=dict(image=dict(size=(320, 800), resize=0.5475)))
test_dataloader = dict(dataset=dict(image=dict(size=(320, 800), resize=0.5475)))
