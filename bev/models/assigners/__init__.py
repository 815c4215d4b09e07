"""Which prediction answers for which ground truth."""

from bev.models.assigners.aligned import ATSSAssigner, StaticQualityAssigner, TaskAlignedAssigner
from bev.models.assigners.assignment import BACKGROUND, IGNORED, Assignment
from bev.models.assigners.dynamic import DynamicSoftLabelAssigner, RatioSimOTAAssigner, SimOTAAssigner
from bev.models.assigners.hungarian import HungarianAssigner2D, HungarianAssigner3D, focal_cost
from bev.models.assigners.max_iou import GridAssigner, MaxIoUAssigner
from bev.models.assigners.point_range import PointRangeAssigner
from bev.models.assigners.ratio import RatioAssigner

__all__ = [
    "ATSSAssigner",
    "Assignment",
    "BACKGROUND",
    "DynamicSoftLabelAssigner",
    "GridAssigner",
    "HungarianAssigner2D",
    "HungarianAssigner3D",
    "IGNORED",
    "MaxIoUAssigner",
    "PointRangeAssigner",
    "RatioAssigner",
    "RatioSimOTAAssigner",
    "SimOTAAssigner",
    "StaticQualityAssigner",
    "TaskAlignedAssigner",
    "focal_cost",
]
