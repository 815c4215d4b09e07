"""Tracking by detection: boxes in space over a scene, and boxes in pictures over a video."""

from bev.tracking.settings import ClassTracking, TrackerSettings
from bev.tracking.tracker2d import Tracker2D, Tracker2DSettings
from bev.tracking.tracker3d import Tracker3D

__all__ = ["ClassTracking", "Tracker2D", "Tracker2DSettings", "Tracker3D", "TrackerSettings"]
