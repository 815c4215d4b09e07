"""Boxes as regression codes and back."""

from bev.models.coders.box_refinement import MetricRange, SigmoidRefinement, inverse_sigmoid
from bev.models.coders.center_coder import CenterCoder
from bev.models.coders.center_point_coder import CenterPointCoder
from bev.models.coders.image_boxes import (
    CellBoxCoder,
    CornerBoxCoder,
    DeltaBoxCoder,
    DistanceBoxCoder,
    DistributionBoxCoder,
    ImageBoxCoder,
    RatioBoxCoder,
    StrideBoxCoder,
)
from bev.models.coders.nms_free import NMSFreeCoder
from bev.models.coders.ray_refinement import RayRefinement

__all__ = [
    "CellBoxCoder",
    "CenterCoder",
    "CenterPointCoder",
    "CornerBoxCoder",
    "DeltaBoxCoder",
    "DistanceBoxCoder",
    "DistributionBoxCoder",
    "ImageBoxCoder",
    "MetricRange",
    "NMSFreeCoder",
    "RatioBoxCoder",
    "RayRefinement",
    "SigmoidRefinement",
    "StrideBoxCoder",
    "inverse_sigmoid",
]
