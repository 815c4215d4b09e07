# nuScenes at full size as DETR3D reads it: LiDAR frame, no geometric augmentation, padded to 928 rows. Configurations
# that make it smaller (BEVFormer) inherit cv2's linear resize, theirs.
_root, _version = "data/nuscenes", "v1.0-trainval"
# Padding follows normalisation in the published code: it is the mean colour here.
_image = dict(
    type="ImageTransform", size=(928, 1600), resize=1.0, crop_y=0.0, pad_value=(124, 116, 104), method="linear"
)

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    dataset=dict(
        type="NuScenesDataset",
        root=_root,
        version=_version,
        split="train",
        image=_image,
        transforms=[
            dict(type="PhotoMetricDistortion"),
            dict(type="RangeFilter", x_m=(-51.2, 51.2), y_m=(-51.2, 51.2)),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    dataset=dict(type="NuScenesDataset", root=_root, version=_version, split="val", image=_image),
)
val_evaluator = dict(type="NuScenesMetric", root=_root, version=_version, split="val")
test_dataloader = val_dataloader
test_evaluator = val_evaluator
