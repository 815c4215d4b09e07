# COCO 2017 (https://cocodataset.org) at 416 px, as YOLOX-Nano and -Tiny train: mosaic until the last 15 epochs, sizes
# of 320 to 512.
_classes = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant"),
    *("bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard"),
    *("sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle"),
    *("wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli"),
    *("carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet"),
    *("tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
_root = "data/coco"
_sizes = [(side, side) for side in range(320, 513, 32)]
_colours = dict(type="HsvJitter")
_turned = dict(type="RandomFlip")

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    dataset=dict(
        type="PictureDataset",
        pictures=dict(
            type="CocoPictures",
            annotations=f"{_root}/annotations/instances_train2017.json",
            images=f"{_root}/train2017",
            classes=_classes,
        ),
        size=_sizes,
        transforms=[
            dict(type="Mosaic", probability=0.5),
            dict(type="RandomAffine", scale=(0.5, 1.5)),
            _colours,
            _turned,
        ],
        last_transforms=[_colours, _turned],
        close_epoch=285,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        type="PictureDataset",
        pictures=dict(
            type="CocoPictures",
            annotations=f"{_root}/annotations/instances_val2017.json",
            images=f"{_root}/val2017",
            classes=_classes,
        ),
        size=(416, 416),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric")
test_evaluator = dict(type="CocoMetric")
