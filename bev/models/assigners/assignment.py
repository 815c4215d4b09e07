"""What an assigner of a dense head says, and what all of them share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BACKGROUND, IGNORED = -1, -2


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which box each of P priors answers for.

    Attributes:
        box: (P,) int64 index of the box; ``BACKGROUND`` (-1) none, ``IGNORED`` (-2) neither positive nor negative.
        overlap: (P,) IoU with that box; of other priors what the definition compared, -inf where it compared nothing.
        metric: (P,) quality in the definition's own terms for aligned assigners, 0 where there is no box; else None.
    """

    box: Tensor
    overlap: Tensor
    metric: Tensor | None = None

    @property
    def positive(self) -> Tensor:
        """(K,) int64 priors with a box, ascending."""
        return (self.box >= 0).nonzero().flatten()

    @property
    def negative(self) -> Tensor:
        """(K,) int64 background priors, ascending."""
        return (self.box == BACKGROUND).nonzero().flatten()

    def labels(self, label: Tensor, num_classes: int) -> Tensor:
        """(P,) class of each prior's box, ``num_classes`` where there is none; ``label`` (M,) int64."""
        picked = torch.full_like(self.box, num_classes)
        positive = self.positive
        picked[positive] = label[self.box[positive]]
        return picked


def nothing_assigned(count: int, device: torch.device, metric: bool = False) -> Assignment:
    """All background: what an image without boxes gets."""
    zeros = torch.zeros(count, device=device)
    return Assignment(torch.full((count,), BACKGROUND, device=device), zeros, zeros if metric else None)


def keep_highest(candidate: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
    """One box for every prior: of the candidates, the one with the highest IoU.

    Args:
        candidate: (P, M) bool.
        overlap: (P, M).

    Returns:
        box (P,) int64 with ``BACKGROUND``, and its overlap (P,), -inf where there is none.
    """
    value, box = torch.where(candidate, overlap, -torch.inf).max(1)
    return torch.where(value.isinf(), BACKGROUND, box), value


def match_dynamically(cost: Tensor, overlap: Tensor, candidates: int) -> tuple[Tensor, Tensor]:
    """SimOTA's choice: each box takes as many of its cheapest priors as its best IoUs sum to (OTA, CVPR 2021).

    Args:
        cost: (P, M).
        overlap: (P, M) IoU.
        candidates: number of IoUs that are summed.

    Returns:
        (P, M) bool, at most one box a prior (the cheapest where several want it), and (M,) the numbers taken.
    """
    best = overlap.topk(min(candidates, len(overlap)), dim=0).values
    wanted = best.sum(0).int().clamp(min=1)
    taken = torch.zeros_like(cost, dtype=torch.bool)
    for box in range(cost.shape[1]):
        taken[cost[:, box].topk(int(wanted[box]), largest=False).indices, box] = True
    contested = taken.sum(1) > 1
    cheapest = torch.zeros_like(taken).scatter_(1, cost.argmin(1, keepdim=True), True)
    return torch.where(contested[:, None], cheapest, taken), wanted
