"""Which prediction answers for which ground truth."""

from bev.models.assigners.hungarian import HungarianAssigner3D, focal_cost

__all__ = ["HungarianAssigner3D", "focal_cost"]
