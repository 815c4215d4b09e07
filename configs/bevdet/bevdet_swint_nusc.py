"""BEVDet with Swin-T at 704x256 on nuScenes, first generation ("BEVDet-Tiny", arXiv 2112.11790).

Published on the validation split, with CBGS: mAP .308, NDS .404 (README of HuangJunJie2017/BEVDet). The
published schedule is one cycle over 20 epochs (rate up fivefold over the first 40 %, then down); here it is a linear
warm-up of 40 % and half a cosine.
"""

_base_ = ["configs/bevdet/bevdet_r50_nusc.py"]

model = dict(
    img_backbone=dict(_delete_=True, type="SwinTransformer", out_indices=(2, 3)),
    img_neck=dict(
        _delete_=True,
        type="LSSFPN",
        in_channels=384 + 768,
        out_channels=512,
        scale=2,
        input_indices=(0, 1),
        extra_upsample=None,
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(_delete_=True, max_norm=35.0, norm_type=2))
param_scheduler = [dict(type="WarmupCosineLR", warmup=0.4, start_ratio=0.2, min_ratio=2e-5)]
train_cfg = dict(max_epochs=20, val_interval_epochs=20)
