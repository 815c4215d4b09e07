"""Hooks: progress, scalars, checkpoints, averages of the weights, distillation, pictures,
pruning, rounding. Those of mmengine fit in."""

from bev.engine.hooks.channel_pruning import ChannelPruningHook
from bev.engine.hooks.checkpoint import CheckpointHook
from bev.engine.hooks.distillation import DistillationHook
from bev.engine.hooks.ema import EMAHook
from bev.engine.hooks.epoch import CriterionEpochHook
from bev.engine.hooks.pictures import DetectionPicturesHook
from bev.engine.hooks.progress import ProgressHook
from bev.engine.hooks.pruning import PruningHook
from bev.engine.hooks.quantization import QuantizationHook
from bev.engine.hooks.scalars import ScalarLogHook
from bev.engine.hooks.swa import SWAHook

__all__ = [
    "ChannelPruningHook",
    "CheckpointHook",
    "CriterionEpochHook",
    "DetectionPicturesHook",
    "DistillationHook",
    "EMAHook",
    "ProgressHook",
    "PruningHook",
    "QuantizationHook",
    "SWAHook",
    "ScalarLogHook",
]
