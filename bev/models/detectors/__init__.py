"""Whole detectors: the three doors forward, loss and predict over injected parts."""

from bev.models.detectors.base import Detector
from bev.models.detectors.dense import DenseDetector
from bev.models.detectors.detr3d import Detr3D
from bev.models.detectors.detr3d_seeded import SeededDetr3D
from bev.models.detectors.lift_splat import BEVDet

__all__ = ["BEVDet", "DenseDetector", "Detector", "Detr3D", "SeededDetr3D"]
