"""Hooks: progress, scalar log, checkpoints, moving average, pictures. Hooks of mmengine plug in beside them."""

from bev.engine.hooks.checkpoint import CheckpointHook
from bev.engine.hooks.ema import EMAHook
from bev.engine.hooks.epoch import CriterionEpochHook
from bev.engine.hooks.pictures import DetectionPicturesHook
from bev.engine.hooks.progress import ProgressHook
from bev.engine.hooks.scalars import ScalarLogHook

__all__ = [
    "CheckpointHook",
    "CriterionEpochHook",
    "DetectionPicturesHook",
    "EMAHook",
    "ProgressHook",
    "ScalarLogHook",
]
