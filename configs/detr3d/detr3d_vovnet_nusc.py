"""DETR3D with VoVNet-99 on nuScenes (arXiv 2110.06922): the published architecture and optimisation.

Starts from the weights of a DD3D detector: ``--cfg-options load_from=dd3d_det_final.pth``. Published on the test split:
NDS .479, mAP .412 (README of WangYueFt/detr3d; mmdet3d's retrained weights .481, .414), trained on the training and the
validation scenes together with class-balanced sampling; here the training scenes are read as they are.
"""

_base_ = ["configs/detr3d/detr3d_r101_dcn_nusc.py"]

model = dict(
    preprocess=dict(std=(57.375, 57.120, 58.395)),
    img_backbone=dict(
        _delete_=True, type="VoVNet", spec="V-99-eSE", out_indices=(0, 1, 2, 3), frozen_stages=1, norm_eval=True
    ),
    img_neck=dict(_delete_=True, type="FPN", in_channels=(256, 512, 768, 1024), out_channels=256, num_outs=4),
)
