"""Which layers stay in float16 beside int8 ones: as many of the costliest as a size allows, or as a score needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bev.deploy.quantize.half import Magnitudes, to_half
from bev.deploy.quantize.network import weights_bytes
from bev.deploy.quantize.qdq import Quantized
from bev.deploy.quantize.sensitivity import Sensitivity


@dataclass(frozen=True)
class Choice:
    """What mixed precision settled on.

    Attributes:
        keep: names of layers in float16.
        model: the ``ModelProto``.
        drop: of the score against float32, where it was measured; else None.
    """

    keep: tuple[str, ...]
    model: Any
    drop: float | None = None


def mixed_graph(quantized: Quantized, keep: Sequence[str], magnitudes: Magnitudes | None = None) -> Any:
    """Int8 layers beside float16 ones; make ``quantized`` with ``Recipe(half_scales=True)``."""
    return to_half(quantized.graph(keep), magnitudes, rules=quantized.network.protected)[0]


def within_size(
    quantized: Quantized, rows: Sequence[Sensitivity], budget_bytes: int, magnitudes: Magnitudes | None = None
) -> Choice:
    """Raise the layers that cost most for each byte, as long as the graph's constants stay within a size.

    Args:
        quantized: all layers in int8.
        rows: of :func:`sensitivities`.
        budget_bytes: of all constants of the graph.
        magnitudes: see :func:`to_half`.

    Raises:
        ValueError: it does not fit even with every layer in int8.
    """
    smallest = mixed_graph(quantized, (), magnitudes)
    size = weights_bytes(smallest)
    if size > budget_bytes:
        raise ValueError(f"{budget_bytes / 1e6:.3f} MB are too few: with all layers in int8 it is {size / 1e6:.3f} MB")
    keep: list[str] = []
    for row in sorted(rows, key=lambda row: -row.cost / max(row.weight_bytes, 1)):
        more = row.weight_bytes // 4  # two bytes a weight in place of one
        if size + more <= budget_bytes:
            keep.append(row.layer)
            size += more
    return Choice(tuple(keep), mixed_graph(quantized, keep, magnitudes))


def within_drop(
    quantized: Quantized,
    rows: Sequence[Sensitivity],
    score: Callable[[Any], float],
    reference: float,
    allowed: float,
    magnitudes: Magnitudes | None = None,
) -> Choice:
    """Raise the costliest layers, as few as keep the score within a drop.

    Args:
        quantized: all layers in int8.
        rows: of :func:`sensitivities`, by falling cost.
        score: of a ``ModelProto``, larger is better.
        reference: score of the float32 graph.
        allowed: drop of the score that is accepted.
        magnitudes: see :func:`to_half`.

    The number of layers is found by halving, as if the drop fell with every layer raised; the result is measured, so it
    keeps the budget wherever the assumption does not hold, but may then raise more layers than are needed.

    Raises:
        ValueError: not even float16 throughout keeps the budget.
    """
    order = [row.layer for row in rows]

    def attempt(count: int) -> Choice:
        model = mixed_graph(quantized, order[:count], magnitudes)
        return Choice(tuple(order[:count]), model, reference - score(model))

    best = attempt(0)
    if best.drop is not None and best.drop <= allowed:
        return best
    low, high, best = 0, len(order), attempt(len(order))
    if best.drop is None or best.drop > allowed:
        raise ValueError(f"float16 alone loses {best.drop:.4f}, {allowed} are allowed")
    while high - low > 1:
        middle = (low + high) // 2
        tried = attempt(middle)
        if tried.drop is not None and tried.drop <= allowed:
            high, best = middle, tried
        else:
            low = middle
    return best
