"""Anchors of like shape in the box's cell and its neighbours (YOLOv5; the candidates of YOLOv7)."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.models.priors import Priors
from bev.registry import MODELS


@MODELS.register_module()
class RatioAssigner:
    """Every anchor of about a box's size answers for it, in its own cell and in the nearest cells beside.

    A box takes an anchor where no side is ``ratio`` times larger or smaller. Beside the cell that holds its centre it
    takes the left (upper) cell where the centre lies less than ``reach`` right of (below) the border, and the right
    (lower) one alike: with 0.5 at most one in each direction, with 1.0 all four. Not exclusive: one anchor may answer
    for several boxes.

    Args:
        ratio: bound of the sides' ratios (YOLOv5's ``anchor_t``).
        reach: in cells; YOLOv5 and YOLOv7's lead head 0.5, YOLOv7's auxiliary head 1.0.
    """

    def __init__(self, ratio: float = 4.0, reach: float = 0.5) -> None:
        if ratio <= 1 or not 0 <= reach <= 1:
            raise ValueError(f"RatioAssigner: ratio {ratio} must be above 1, reach {reach} between 0 and 1")
        self.ratio, self.reach = ratio, reach

    @torch.no_grad()
    def candidates(self, priors: Priors, boxes: Tensor) -> Tensor:
        """(P, M) bool: which priors may answer for which boxes (M, 4) px."""
        size = priors.xyxy_px[:, None, 2:] - priors.xyxy_px[:, None, :2]
        quotient = (boxes[:, 2:] - boxes[:, :2]) / size
        alike = torch.max(quotient, 1 / quotient.clamp(min=1e-9)).amax(-1) < self.ratio
        stride = priors.stride_px[:, None]
        cell = (priors.center_px / stride).floor()
        # Where the box's centre lies, counted from the prior's cell: 0..1 in it, beyond in a neighbour's.
        offset = (boxes[:, :2] + boxes[:, 2:]) / 2 / stride[:, None] - cell[:, None]
        within = (offset >= 0) & (offset < 1)
        beside = ((offset > -self.reach) & (offset < 0)) | ((offset >= 1) & (offset < 1 + self.reach))
        near = within.all(-1) | (within & beside.flip(-1)).any(-1)
        return alike & near

    def assign(self, priors: Priors, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Prior and box (K,) int64 each, of every pair, in rising order of the prior."""
        prior, box = self.candidates(priors, boxes).nonzero().unbind(1)
        return prior, box
