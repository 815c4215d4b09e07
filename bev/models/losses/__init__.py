"""Losses as plain functions and modules."""

from bev.models.losses.depth_supervision import DepthSupervision
from bev.models.losses.focal import FocalLoss
from bev.models.losses.l1 import L1Loss, SmoothL1Loss

__all__ = ["DepthSupervision", "FocalLoss", "L1Loss", "SmoothL1Loss"]
