"""Scores: detection metrics and their reports."""

from bev.evaluation.coco import CocoMetric, evaluate_coco
from bev.evaluation.nuscenes import NuScenesMetric, evaluate_nuscenes
from bev.evaluation.segmentation import BEVSegmentationIoU

__all__ = ["BEVSegmentationIoU", "CocoMetric", "NuScenesMetric", "evaluate_coco", "evaluate_nuscenes"]
