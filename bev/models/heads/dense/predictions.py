"""The raw outputs of a dense head as one list of predictions an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from bev.models.coders.image_boxes import ImageBoxCoder
from bev.models.heads.dense.common import Maps
from bev.models.priors import Priors

ScoreForm = Literal["sigmoid", "softmax", "probability"]


@dataclass(frozen=True, eq=False)
class DensePredictions:
    """B images, P priors of all levels, C classes.

    Attributes:
        cls: (B, P, C) as the network gave them.
        box: (B, P, K) as the network gave them.
        quality: (B, P) logits of centre-ness, IoU or objectness, or None.
        priors: what the boxes are relative to.
        coder: what they mean.
        score_form: how ``cls`` becomes probabilities; ``softmax`` has the background in its last column.
    """

    cls: Tensor
    box: Tensor
    quality: Tensor | None
    priors: Priors
    coder: ImageBoxCoder
    score_form: ScoreForm = "sigmoid"

    @cached_property
    def boxes_px(self) -> Tensor:
        """(B, P, 4) corners, float32; differentiable, whoever asks first (an assigner asks under ``no_grad``)."""
        with torch.set_grad_enabled(self.box.requires_grad):
            return self.coder.decode(self.priors, self.box if self.box.element_size() >= 4 else self.box.float())

    @cached_property
    def scores(self) -> Tensor:
        """(B, P, C) probabilities, background left out."""
        with torch.set_grad_enabled(self.cls.requires_grad):
            cls = self.cls if self.cls.element_size() >= 4 else self.cls.float()
            if self.score_form == "softmax":
                return cls.softmax(-1)[..., :-1]
            return cls if self.score_form == "probability" else cls.sigmoid()

    @property
    def num_classes(self) -> int:
        """Without background."""
        return self.cls.shape[-1] - (self.score_form == "softmax")


def flatten_levels(maps: Sequence[Tensor], per_cell: Sequence[int]) -> Tensor:
    """Maps (B, A_l * K, H_l, W_l) -> (B, P, K), in the order of :class:`Priors`."""
    rows = []
    for level, count in zip(maps, per_cell):
        batch, channels = level.shape[:2]
        rows.append(level.permute(0, 2, 3, 1).reshape(batch, -1, channels // count))
    return torch.cat(rows, 1)


def gather_predictions(
    maps: Maps, priors: Priors, per_cell: Sequence[int], coder: ImageBoxCoder, score_form: ScoreForm
) -> DensePredictions:
    """Raw maps of a network as predictions."""
    quality = flatten_levels(maps["quality"], per_cell)[..., 0] if "quality" in maps else None
    return DensePredictions(
        flatten_levels(maps["cls"], per_cell), flatten_levels(maps["box"], per_cell), quality, priors, coder, score_form
    )
