# The synthetic nuScenes of tools/create_data.py, six cameras at 352x128: all of the width, the lower 128 of 198 rows.
# Small enough to keep the network images in memory. The mirror of the world is exact, so it doubles the data for free.
_root, _version = "data/synthetic", "v1.0-synthetic"
_image = dict(type="ImageTransform", size=(128, 352))
_range = dict(type="RangeFilter", x_m=(-51.2, 51.2), y_m=(-51.2, 51.2))

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(
        type="NuScenesDataset",
        root=_root,
        version=_version,
        split="synthetic_train",
        image=_image,
        load_points=True,
        transforms=[dict(type="RigMirror", probability=0.5), _range],
        cache="memory",
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(type="NuScenesDataset", root=_root, version=_version, split="synthetic_val", image=_image),
)
val_evaluator = dict(type="NuScenesMetric", root=_root, version=_version, split="synthetic_val")
test_dataloader = val_dataloader
test_evaluator = val_evaluator
