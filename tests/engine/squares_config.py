# Trains a tiny YOLOX on small pictures of coloured squares; the root comes as an option (tests/engine/pictures.py).
_base_ = ["configs/_base_/model/yolox.py", "configs/_base_/runtime/default.py"]
_data = dict(
    type="PictureDataset",
    pictures=dict(type="VocPictures", root="data/squares", split="all", classes=("red", "blue"), first_pixel=0),
    size=(64, 64),
    on_error="skip",
)
_criterion = dict(
    type="ObjectnessCriterion", assigner=dict(type="SimOTAAssigner", center_radius=1.5, candidates="center")
)
model = dict(
    backbone=dict(depth=0.33, width=0.125, stem="conv", pooling="sppf"),
    neck=dict(in_channels=(32, 64, 128), depth=0.33, out_channels=16),
    head=dict(
        network=dict(num_classes=2, in_channels=16, feat_channels=16),
        criterion=dict(
            _delete_=True, type="SwitchCriterion", epochs=1, first=_criterion, later=dict(with_l1=True, **_criterion)
        ),
        decoder=dict(score_threshold=0.01),
    ),
)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        transforms=[dict(type="Mosaic"), dict(type="RandomAffine"), dict(type="HsvJitter")],
        last_transforms=[dict(type="RandomFlip")],
        close_epoch=1,
        **dict(_data, size=[(64, 64), (96, 96)]),
    ),
)
val_dataloader = dict(batch_size=4, dataset=_data)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric")
test_evaluator = dict(type="CocoMetric")
optim_wrapper = dict(optimizer=dict(type="MuonAdamW", lr=5e-3))
param_scheduler = [dict(type="WarmupCosineLR")]
train_cfg = dict(max_epochs=2)
custom_hooks = [dict(type="EMAHook", decay=0.9, ramp_steps=2), dict(type="DetectionPicturesHook", batches=1)]
