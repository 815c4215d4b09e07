"""nuScenes detection: submissions and the official scores."""

from bev.evaluation.nuscenes.metric import NuScenesMetric
from bev.evaluation.nuscenes.official import evaluate_nuscenes

__all__ = ["NuScenesMetric", "evaluate_nuscenes"]
