"""nuScenes tracking: submissions and their scores."""

from bev.evaluation.tracking.evaluate import TrackingEvaluation, evaluate_tracking
from bev.evaluation.tracking.submission import TRACKING_CLASSES, TrackedBox, is_tracking_file, read_tracks, write_tracks

__all__ = [
    "TRACKING_CLASSES",
    "TrackedBox",
    "TrackingEvaluation",
    "evaluate_tracking",
    "is_tracking_file",
    "read_tracks",
    "write_tracks",
]
