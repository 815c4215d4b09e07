"""Whole detectors: the three doors forward, loss and predict over injected parts."""

from bev.models.detectors.base import Detector, State
from bev.models.detectors.bev_segmenter import BEVSegmenter
from bev.models.detectors.bevdet import LiftSplatDetector
from bev.models.detectors.bevformer import BEVFormer
from bev.models.detectors.dense import DenseDetector
from bev.models.detectors.detr3d import Detr3D
from bev.models.detectors.detr3d_seeded import SeededDetr3D
from bev.models.detectors.frame_stream import FrameStream
from bev.models.detectors.lift_splat import BEVDet
from bev.models.detectors.query import QueryDetector
from bev.models.detectors.streaming import StreamingDetector
from bev.models.detectors.temporal import TemporalDetector

__all__ = [
    "BEVDet",
    "BEVFormer",
    "BEVSegmenter",
    "DenseDetector",
    "Detector",
    "Detr3D",
    "FrameStream",
    "LiftSplatDetector",
    "QueryDetector",
    "SeededDetr3D",
    "State",
    "StreamingDetector",
    "TemporalDetector",
]
