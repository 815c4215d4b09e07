"""What flows through the library: cameras, boxes, points, samples and batches, and the conventions they are kept in."""

from bev.structures.batch import Batch, Sample, collate
from bev.structures.boxes2d import Boxes2D
from bev.structures.boxes3d import Boxes3D
from bev.structures.camera_rig import CameraRig
from bev.structures.image_batch import ImageBatch, ImageSample, collate_images
from bev.structures.points import PointCloud

__all__ = [
    "Batch",
    "Boxes2D",
    "Boxes3D",
    "CameraRig",
    "ImageBatch",
    "ImageSample",
    "PointCloud",
    "Sample",
    "collate",
    "collate_images",
]
