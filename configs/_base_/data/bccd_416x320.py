# Blood cells (github.com/Shenggan/BCCD_Dataset, MIT): 364 pictures of 640x480, three classes; trained on trainval (292)
# and tested on test (72), the official split. At 416x320, decoded pictures kept in memory.
_classes = ("RBC", "WBC", "Platelets")
_root = "data/bccd/BCCD"
_size = (320, 416)
_small = dict(load_px=_size, cache="memory")
_close_epoch = 45
_colours = dict(type="HsvJitter", hue_deg=7.0, saturation=0.4, value=0.3)
_turned = dict(type="RandomFlip", horizontal=0.5, vertical=0.5)

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    prefetch_factor=4,
    dataset=dict(
        type="PictureDataset",
        pictures=dict(type="VocPictures", root=_root, split="trainval", classes=_classes),
        size=_size,
        transforms=[
            dict(type="Mosaic", probability=0.5),
            dict(type="RandomAffine", rotate_deg=5.0, scale=(0.7, 1.4), shift=0.1),
            _colours,
            _turned,
        ],
        last_transforms=[dict(type="RandomAffine", rotate_deg=2.0, scale=(0.9, 1.1), shift=0.05), _colours, _turned],
        close_epoch=_close_epoch,
        **_small,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    dataset=dict(
        type="PictureDataset",
        pictures=dict(type="VocPictures", root=_root, split="test", classes=_classes),
        size=_size,
        **_small,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric")
test_evaluator = dict(type="CocoMetric")
