"""Necks: from a backbone's maps to the levels that heads read."""

from bev.models.necks.fpn import FPN

__all__ = ["FPN"]
