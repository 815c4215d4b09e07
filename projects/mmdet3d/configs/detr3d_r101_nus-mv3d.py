"""This project's DETR3D on mmdet3d's data set, transforms, metric and runner:
``python -m projects.mmdet3d mmdet3d/tools/train.py projects/mmdet3d/configs/detr3d_r101_nus-mv3d.py``.

The model is that of configs/detr3d/detr3d_r101_dcn_nusc.py; everything else is mmdet3d's.
"""

custom_imports = dict(imports=["projects.mmdet3d.detectors"])
default_scope = "mmdet3d"
range_m = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
decoder_layer = dict(
    type="DetrDecoderLayer",
    embed_dim=256,
    num_heads=8,
    hidden_dim=512,
    dropout=0.1,
    cross_attention=dict(
        type="CameraCrossAttention", embed_dim=256, num_cameras=6, num_levels=4, range_m=range_m, dropout=0.1
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
        out_channels=256,
        start_level=1,
        num_outs=4,
        extra_levels="on_output",
        relu_before_extra_convs=True,
    ),
    pts_bbox_head=dict(
        type="Detr3DHead",
        num_queries=900,
        embed_dim=256,
        num_classes=10,
        transformer=dict(
            type="Detr3DTransformer",
            embed_dim=256,
            layers=[decoder_layer] * 6,
            refinement=dict(type="SigmoidRefinement", range_m=range_m),
        ),
        assigner=dict(type="HungarianAssigner3D", cls_weight=2.0, reg_weight=0.25),
        coder=dict(type="NMSFreeCoder", max_boxes=300, center_range_m=(-61.2, -61.2, -10.0, 61.2, 61.2, 10.0)),
        loss_cls=dict(type="FocalLoss", gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type="L1Loss", loss_weight=0.25),
    ),
)

# The order of the labels in every published nuScenes camera detector, which mmdet3d's own data files do not follow.
class_names = ["car", "truck", "construction_vehicle", "bus", "trailer"]
class_names += ["barrier", "motorcycle", "bicycle", "pedestrian", "traffic_cone"]
data_root = "data/nuscenes/"
train_pipeline = [
    dict(type="LoadMultiViewImageFromFiles", to_float32=True, num_views=6),
    dict(type="LoadAnnotations3D", with_bbox_3d=True, with_label_3d=True),
    dict(type="ObjectRangeFilter", point_cloud_range=range_m),
    dict(type="ObjectNameFilter", classes=class_names),
    dict(type="Pack3DDetInputs", keys=["img", "gt_bboxes_3d", "gt_labels_3d"]),
]
test_pipeline = [
    dict(type="LoadMultiViewImageFromFiles", to_float32=True, num_views=6),
    dict(type="Pack3DDetInputs", keys=["img"]),
]
dataset = dict(
    type="NuScenesDataset",
    data_root=data_root,
    metainfo=dict(classes=class_names),
    modality=dict(use_lidar=False, use_camera=True),
    data_prefix=dict(
        pts="",
        CAM_FRONT="samples/CAM_FRONT",
        CAM_FRONT_RIGHT="samples/CAM_FRONT_RIGHT",
        CAM_FRONT_LEFT="samples/CAM_FRONT_LEFT",
        CAM_BACK="samples/CAM_BACK",
        CAM_BACK_LEFT="samples/CAM_BACK_LEFT",
        CAM_BACK_RIGHT="samples/CAM_BACK_RIGHT",
    ),
    box_type_3d="LiDAR",
)
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(ann_file="nuscenes_infos_train.pkl", pipeline=train_pipeline, test_mode=False, **dataset),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(ann_file="nuscenes_infos_val.pkl", pipeline=test_pipeline, test_mode=True, **dataset),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="NuScenesMetric", data_root=data_root, ann_file=data_root + "nuscenes_infos_val.pkl", metric="bbox"
)
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.1))),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=24, T_max=24, eta_min_ratio=1e-3),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=24, val_interval=2)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
env_cfg = dict(mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0), dist_cfg=dict(backend="nccl"))
