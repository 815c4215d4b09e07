"""Losses as plain functions and modules."""

from bev.models.losses.cross_entropy import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    SigmoidCrossEntropyLoss,
    SymmetricCrossEntropyLoss,
)
from bev.models.losses.depth_supervision import DepthSupervision
from bev.models.losses.dice import DiceLoss
from bev.models.losses.distillation import (
    BoxDistillation,
    FeatureDistillation,
    LogitDistillation,
    MapDistillation,
)
from bev.models.losses.equalization import EqualizationLoss
from bev.models.losses.focal import FocalLoss
from bev.models.losses.hard_examples import OHEMLoss
from bev.models.losses.iou import (
    BoundedIoULoss,
    CIoULoss,
    DIoULoss,
    EIoULoss,
    ExtendedIoULoss,
    GIoULoss,
    IoULoss,
    SIoULoss,
)
from bev.models.losses.l1 import BalancedL1Loss, L1Loss, MSELoss, SmoothL1Loss
from bev.models.losses.quality import DistributionFocalLoss, QualityFocalLoss, VarifocalLoss
from bev.models.losses.reduction import PairLoss
from bev.models.losses.rotated import RotatedIoULoss

__all__ = [
    "BalancedL1Loss",
    "BinaryCrossEntropyLoss",
    "BoundedIoULoss",
    "BoxDistillation",
    "CIoULoss",
    "CrossEntropyLoss",
    "DIoULoss",
    "DepthSupervision",
    "DiceLoss",
    "DistributionFocalLoss",
    "EIoULoss",
    "EqualizationLoss",
    "ExtendedIoULoss",
    "FeatureDistillation",
    "FocalLoss",
    "GIoULoss",
    "IoULoss",
    "L1Loss",
    "LogitDistillation",
    "MSELoss",
    "MapDistillation",
    "OHEMLoss",
    "PairLoss",
    "QualityFocalLoss",
    "RotatedIoULoss",
    "SIoULoss",
    "SigmoidCrossEntropyLoss",
    "SmoothL1Loss",
    "SymmetricCrossEntropyLoss",
    "VarifocalLoss",
]
