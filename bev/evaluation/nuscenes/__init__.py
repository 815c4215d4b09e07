"""nuScenes detection: submissions and their scores."""

from bev.evaluation.nuscenes.evaluate import Evaluation, evaluate_columns, evaluate_nuscenes, evaluate_submission
from bev.evaluation.nuscenes.metric import NuScenesMetric
from bev.evaluation.nuscenes.official import evaluate_official
from bev.evaluation.nuscenes.settings import DetectionSettings

__all__ = [
    "DetectionSettings",
    "Evaluation",
    "NuScenesMetric",
    "evaluate_columns",
    "evaluate_nuscenes",
    "evaluate_official",
    "evaluate_submission",
]
