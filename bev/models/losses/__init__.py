"""Losses as plain functions and modules."""

from bev.models.losses.focal import FocalLoss
from bev.models.losses.l1 import L1Loss, SmoothL1Loss

__all__ = ["FocalLoss", "L1Loss", "SmoothL1Loss"]
