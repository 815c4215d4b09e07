"""Scores: detection metrics and their reports."""

from bev.evaluation.nuscenes import NuScenesMetric, evaluate_nuscenes
from bev.evaluation.segmentation import BEVSegmentationIoU

__all__ = ["BEVSegmentationIoU", "NuScenesMetric", "evaluate_nuscenes"]
