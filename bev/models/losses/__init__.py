"""Losses as plain functions and modules."""

from bev.models.losses.cross_entropy import BinaryCrossEntropyLoss, CrossEntropyLoss, SymmetricCrossEntropyLoss
from bev.models.losses.depth_supervision import DepthSupervision
from bev.models.losses.distillation import (
    BoxDistillation,
    FeatureDistillation,
    LogitDistillation,
    MapDistillation,
)
from bev.models.losses.focal import FocalLoss
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

__all__ = [
    "BalancedL1Loss",
    "BinaryCrossEntropyLoss",
    "BoundedIoULoss",
    "BoxDistillation",
    "CIoULoss",
    "CrossEntropyLoss",
    "DIoULoss",
    "DepthSupervision",
    "DistributionFocalLoss",
    "EIoULoss",
    "ExtendedIoULoss",
    "FeatureDistillation",
    "FocalLoss",
    "GIoULoss",
    "IoULoss",
    "L1Loss",
    "LogitDistillation",
    "MSELoss",
    "MapDistillation",
    "PairLoss",
    "QualityFocalLoss",
    "SIoULoss",
    "SmoothL1Loss",
    "SymmetricCrossEntropyLoss",
    "VarifocalLoss",
]
