"""Two heads on the same levels: a one-to-many one that teaches, a one-to-one one that predicts (YOLOv10's training)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from bev.models.heads.dense.common import Maps
from bev.models.heads.dense.head import DenseHead
from bev.models.heads.dense.taught_head import TaughtHead
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class PairedHead(TaughtHead):
    """What one box teaches one prior alone is little; a second head, used in training only, teaches the levels more.

    Args:
        head: predicts; one prior a box.
        teacher: many priors a box; left out of inference and export.
        detach: the first head does not move the levels (arXiv 2405.14458, section 3.1); False lets both do so.
    """

    def __init__(self, head: DenseHead, teacher: DenseHead, detach: bool = False) -> None:
        super().__init__(head, "teacher_")
        self.teacher, self.detach = teacher, detach

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, C_l, H_l, W_l) -> raw maps of the head that predicts; in training also ``teacher_*``."""
        own = [x.detach() for x in features] if self.detach and self.training else features
        maps: Maps = self.head(own)
        return {**maps, **self.named(self.teacher(features))} if self.training else maps

    def loss(self, maps: Maps, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """Terms of both heads, those of the second as ``teacher_*``; maps as made in training."""
        own, taught = self.parted(maps)
        second = self.teacher.loss(taught, truth)
        return {**self.head.loss(own, truth), **{f"{self.prefix}{name}": term for name, term in second.items()}}
