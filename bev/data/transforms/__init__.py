"""What is done to images and samples between the files and the batch."""

from bev.data.transforms.augment_reference import AugmentReference
from bev.data.transforms.base import SampleTransform
from bev.data.transforms.buckets import ResolutionBuckets
from bev.data.transforms.calibration_noise import CalibrationNoise
from bev.data.transforms.camera_dropout import CameraDropout
from bev.data.transforms.class_filter import ClassFilter
from bev.data.transforms.exchanged_calibration import ExchangeCalibrations
from bev.data.transforms.image import ImageDraw, ImageTransform
from bev.data.transforms.mirror import RigMirror
from bev.data.transforms.photometric import PhotoMetricDistortion
from bev.data.transforms.range_filter import RangeFilter
from bev.data.transforms.rotate import RotateReference

__all__ = [
    "AugmentReference",
    "CalibrationNoise",
    "CameraDropout",
    "ClassFilter",
    "ExchangeCalibrations",
    "ImageDraw",
    "ImageTransform",
    "PhotoMetricDistortion",
    "RangeFilter",
    "ResolutionBuckets",
    "RigMirror",
    "RotateReference",
    "SampleTransform",
]
