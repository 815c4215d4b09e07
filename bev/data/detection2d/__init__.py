"""Pictures with boxes of their own: what 2D detectors are trained and tested on."""

from bev.data.detection2d import mixing, pixels, shapes
from bev.data.detection2d.coco import read_coco
from bev.data.detection2d.dataset import PictureDataset, read_picture
from bev.data.detection2d.letterbox import letterbox
from bev.data.detection2d.picture import Chance, Picture, PictureTransform
from bev.data.detection2d.records import PICTURE_SUFFIXES, PictureList, PictureRecord, to_coco
from bev.data.detection2d.voc import read_voc
from bev.data.detection2d.yolo import read_yolo

__all__ = [
    "Chance",
    "PICTURE_SUFFIXES",
    "Picture",
    "PictureDataset",
    "PictureList",
    "PictureRecord",
    "PictureTransform",
    "letterbox",
    "mixing",
    "pixels",
    "read_coco",
    "read_picture",
    "read_voc",
    "read_yolo",
    "shapes",
    "to_coco",
]
