"""Synthetic nuScenes at 352 x 128: `python tools/create_data.py synthetic --out data/synthetic --scenes 42 --val-scenes 4`."""

_root, _version = "data/synthetic", "v1.0-synthetic"
# 400 x 225 pictures fit to 352 px width, the upper 70 rows (sky) cut off.
_image = dict(type="ImageTransform", size=(128, 352))
_frames = dict(type="NuScenesDataset", root=_root, version=_version, image=_image)

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    dataset=dict(
        **_frames,
        split="synthetic_train",
        load_points=True,
        cache="memory",
        transforms=[dict(type="RigMirror", probability=0.5)],
    ),
)
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(**_frames, split="synthetic_val"))
test_dataloader = val_dataloader
val_evaluator = dict(type="NuScenesMetric", root=_root, version=_version, split="synthetic_val")
test_evaluator = val_evaluator
