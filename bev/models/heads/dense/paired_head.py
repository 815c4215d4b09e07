"""Two heads on the same levels: a one-to-many one that teaches, a one-to-one one that predicts (YOLOv10's training)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.heads.dense.common import Maps
from bev.models.heads.dense.head import DenseHead
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class PairedHead(nn.Module):
    """What one box teaches one prior alone is little; a second head, used in training only, teaches the levels more.

    Args:
        head: predicts; one prior a box.
        teacher: many priors a box; left out of inference and export.
        detach: the first head does not move the levels (arXiv 2405.14458, section 3.1); False lets both do so.
    """

    def __init__(self, head: DenseHead, teacher: DenseHead, detach: bool = False) -> None:
        super().__init__()
        self.head, self.teacher, self.detach = head, teacher, detach
        self.decoder = head.decoder

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, C_l, H_l, W_l) -> raw maps of the head that predicts; in training also ``teacher_*``."""
        own = [x.detach() for x in features] if self.detach and self.training else features
        maps: Maps = self.head(own)
        if self.training:
            maps = {**maps, **{f"teacher_{name}": levels for name, levels in self.teacher(features).items()}}
        return maps

    def loss(self, maps: Maps, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """Terms of both heads, those of the second as ``teacher_*``; maps as made in training."""
        own = {name: levels for name, levels in maps.items() if not name.startswith("teacher_")}
        taught = {name.removeprefix("teacher_"): maps[name] for name in maps if name.startswith("teacher_")}
        if not taught:
            raise ValueError("PairedHead.loss needs the maps of a forward pass in training mode")
        losses = self.head.loss(own, truth)
        return {**losses, **{f"teacher_{name}": term for name, term in self.teacher.loss(taught, truth).items()}}

    def predict(self, maps: Maps, sizes_px: Sequence[tuple[float, float]]) -> list[Boxes2D]:
        """Boxes of the head that predicts; see :meth:`DenseHead.predict`."""
        return self.head.predict(maps, sizes_px)
