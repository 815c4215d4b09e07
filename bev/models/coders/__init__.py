"""Between a network's numbers and boxes."""

from bev.models.coders.box_refinement import MetricRange, SigmoidRefinement, inverse_sigmoid
from bev.models.coders.nms_free import NMSFreeCoder

__all__ = ["MetricRange", "NMSFreeCoder", "SigmoidRefinement", "inverse_sigmoid"]
