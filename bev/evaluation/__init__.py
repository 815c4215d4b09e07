"""Scores: detection metrics and their reports."""

from bev.evaluation.nuscenes import NuScenesMetric, evaluate_nuscenes

__all__ = ["NuScenesMetric", "evaluate_nuscenes"]
