# nuScenes at 704x256 with BEVDet's image augmentation: factors .38 to .55 of 1600x900, the bottom rows kept, a random
# column window, flips and up to 5.4 degrees of rotation of each image alone. Pillow's bicubic resize, as published.
# Then the world is turned, scaled and flipped, and classes come equally often (CBGS): the recipe of BEVDet-R50-CBGS,
# dev2.1. BEVDet-R50 of the first release reads the LiDAR frame and tests at .48: frame="lidar", resize=0.48.
_root, _version = "data/nuscenes", "v1.0-trainval"
_cameras = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")
_size = (256, 704)

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    dataset=dict(
        type="NuScenesDataset",
        root=_root,
        version=_version,
        split="train",
        cameras=_cameras,
        frame="ego",
        image=dict(
            type="ImageTransform",
            size=_size,
            resize=(0.38, 0.55),
            crop_y=1.0,
            crop_x=(0.0, 1.0),
            flip=0.5,
            rotate_deg=(-5.4, 5.4),
            method="pil_bicubic",
        ),
        transforms=[
            dict(type="AugmentReference", rotate_deg=(-22.5, 22.5), scale=(0.95, 1.05), flip_x=0.5, flip_y=0.5),
            dict(type="RangeFilter", x_m=(-51.2, 51.2), y_m=(-51.2, 51.2)),
        ],
        class_balance=True,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=4,
    dataset=dict(
        type="NuScenesDataset",
        root=_root,
        version=_version,
        split="val",
        cameras=_cameras,
        frame="ego",
        image=dict(type="ImageTransform", size=_size, resize=0.44, crop_y=1.0, crop_x=0.5, method="pil_bicubic"),
    ),
)
val_evaluator = dict(type="NuScenesMetric", root=_root, version=_version, split="val")
test_dataloader = val_dataloader
test_evaluator = val_evaluator
