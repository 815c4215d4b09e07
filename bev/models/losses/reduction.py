"""From loss elements to one number, as every loss here does it."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Reduction = Literal["none", "mean", "sum"]


def reduce_loss(
    loss: Tensor, weight: Tensor | None, reduction: Reduction, avg_factor: Tensor | float | None = None
) -> Tensor:
    """Weigh and reduce.

    Args:
        loss: elements.
        weight: broadcastable to ``loss``, or (M,) for its first axis.
        reduction: how to reduce; a mean is taken over all elements, weighted or not.
        avg_factor: what a mean divides by instead, e.g. the number of positives.

    Raises:
        ValueError: ``avg_factor`` with a reduction that does not divide.
    """
    if weight is not None:
        loss = loss * (weight.reshape(-1, *[1] * (loss.ndim - 1)) if weight.ndim == 1 < loss.ndim else weight)
    if avg_factor is None:
        return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]
    if reduction != "mean":
        raise ValueError(f"avg_factor needs reduction 'mean', got {reduction!r}")
    return loss.sum() / avg_factor
