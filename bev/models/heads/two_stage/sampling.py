"""Which of the assigned regions teach."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bev.models.assigners import IGNORED, Assignment
from bev.registry import MODELS


@MODELS.register_module()
class RandomSampler:
    """At most ``count`` regions of a picture, at most a share of them positive, drawn evenly (Fast R-CNN, ICCV 2015).

    Args:
        count: regions of a picture: 256 of the RPN's anchors, 512 proposals.
        positive_share: of the count that positives may have: 0.5 for the RPN, 0.25 for proposals; negatives fill up.
    """

    def __init__(self, count: int, positive_share: float = 0.5) -> None:
        if count < 1 or not 0 <= positive_share <= 1:
            raise ValueError(f"RandomSampler cannot draw {count} regions with a share of {positive_share} positives")
        self.count, self.positive_share = count, positive_share

    def sample(self, assignment: Assignment) -> Assignment:
        """The same assignment with what was not drawn ignored. Draws from torch's global generator."""
        positive = _drawn(assignment.positive, int(self.count * self.positive_share))
        negative = _drawn(assignment.negative, self.count - len(positive))
        chosen = torch.cat([positive, negative])
        box = torch.full_like(assignment.box, IGNORED).index_copy(0, chosen, assignment.box[chosen])
        return replace(assignment, box=box)


def _drawn(index: Tensor, count: int) -> Tensor:
    if len(index) <= count:
        return index
    return index[torch.randperm(len(index), device=index.device)[:count]]
