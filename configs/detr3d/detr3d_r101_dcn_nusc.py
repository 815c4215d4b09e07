"""DETR3D with ResNet-101 and deformable convolutions on nuScenes, as published (arXiv 2110.06922).

Needs the weights of an FCOS3D detector to start from: ``--cfg-options load_from=fcos3d.pth``. The published result
of this recipe on the validation split is mAP .349, NDS .434.
"""

range_m = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
embed_dim = 256
num_layers = 6

decoder_layer = dict(
    type="DetrDecoderLayer",
    embed_dim=embed_dim,
    num_heads=8,
    hidden_dim=512,
    dropout=0.1,
    cross_attention=dict(
        type="CameraCrossAttention", embed_dim=embed_dim, num_cameras=6, num_levels=4, range_m=range_m, dropout=0.1
    ),
)

model = dict(
    type="Detr3D",
    preprocess=dict(type="ImageNormalizer", mean=(103.530, 116.280, 123.675), std=(1.0, 1.0, 1.0), channel_order="bgr"),
    grid_mask=dict(type="GridMask", probability=0.7, ratio=0.5),
    img_backbone=dict(
        type="ResNet",
        depth=101,
        style="caffe",
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        norm_frozen=True,
        dcn_stages=(False, False, True, True),
    ),
    img_neck=dict(
        type="FPN",
        in_channels=(256, 512, 1024, 2048),
        out_channels=embed_dim,
        start_level=1,
        num_outs=4,
        extra_levels="on_output",
        relu_before_extra_convs=True,
    ),
    pts_bbox_head=dict(
        type="Detr3DHead",
        num_queries=900,
        embed_dim=embed_dim,
        num_classes=10,
        transformer=dict(
            type="Detr3DTransformer",
            embed_dim=embed_dim,
            layers=[decoder_layer] * num_layers,
            refinement=dict(type="SigmoidRefinement", range_m=range_m),
        ),
        assigner=dict(type="HungarianAssigner3D", cls_weight=2.0, reg_weight=0.25),
        coder=dict(type="NMSFreeCoder", max_boxes=300, center_range_m=(-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)),
        loss_cls=dict(type="FocalLoss", gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type="L1Loss", loss_weight=0.25),
    ),
)

# Total batch 8. Cosine once an epoch down to 1e-3 of the rate, after 500 steps of linear warm-up from a third.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 3, begin=0, end=500, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=0, end=24, T_max=24, eta_min_ratio=1e-3, by_epoch=True),
]
train_cfg = dict(by_epoch=True, max_epochs=24, val_interval=2)
