"""What follows the network: suppression, rotated overlap, and the best boxes of a head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.case import Build, Case, size_bytes
from bev.ops.box_iou import box_iou, over
from bev.ops.candidates import _center_reference, _query_reference, center_candidates, query_candidates
from bev.ops.greedy import by_score, greedy_keep
from bev.ops.nms import nms
from bev.ops.rotated_iou import _intersection, nms_rotated, rotated_intersection

_LIMITS = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]
_ONE = (torch.float32,)


def _boxes(count: int, rotated: bool) -> Build:
    def inputs(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
        g = torch.Generator().manual_seed(0)
        m = 20 if quick else count
        boxes = torch.rand(m, 5, generator=g) * torch.tensor([100.0, 100.0, 8.0, 4.0, 6.3])
        if not rotated:
            boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], 1)
        return boxes.to(device, dtype), torch.rand(m, generator=g).to(device, dtype), 0.2

    return inputs


def _rotated_iou(first: Tensor, second: Tensor) -> Tensor:
    area1, area2 = first[:, 2] * first[:, 3], second[:, 2] * second[:, 3]
    return over(_intersection(first[:, None], second[None]), area1[:, None], area2[None], "iou")


def _greedy(overlap: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, float], Tensor]:
    """Suppression by blocks in torch, with the decisions inside a block on the host."""

    def keep(boxes: Tensor, score: Tensor, threshold: float) -> Tensor:
        order = by_score(score)
        ranked = boxes[order]
        kept = greedy_keep(len(order), lambda i, j: overlap(ranked[i], ranked[j]) > threshold, order.device)
        return order[kept]

    return keep


def _areas(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
    boxes = _boxes(1000, True)(device, dtype, quick)[0]
    return boxes, boxes.flip(0)


def _queries(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
    g = torch.Generator().manual_seed(0)
    queries = 20 if quick else 900
    logits, codes = torch.randn(1, queries, 10, generator=g), torch.randn(1, queries, 10, generator=g)
    return logits.to(device, dtype), codes.to(device, dtype), 8 if quick else 300, _LIMITS, 0.1, False


def _cells(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
    g = torch.Generator().manual_seed(0)
    side, count = (6, 5) if quick else (128, 500)
    heat, maps = torch.randn(1, 2, side, side, generator=g), torch.randn(1, 10, side, side, generator=g)
    return heat.to(device, dtype), [maps.to(device, dtype)], count


def _plain_cells(heat: Tensor, maps: list[Tensor], count: int) -> tuple[Tensor, ...]:
    numbers = [-51.2, -51.2, 0.8, 0.8, 5.0, *_LIMITS]
    return _center_reference(heat, maps, count, numbers, 0.1, True, False)


def _our_cells(heat: Tensor, maps: list[Tensor], count: int) -> tuple[Tensor, ...]:
    return tuple(center_candidates(heat, maps, count, (-51.2, -51.2), (0.8, 0.8), _LIMITS, 0.1))


def _our_queries(*inputs: Any) -> tuple[Tensor, ...]:
    return tuple(query_candidates(*inputs))


def _read(*inputs: Any) -> int:
    return size_bytes(*inputs)


CASES = [
    Case("nms", "5000 boxes", _boxes(5000, False), _greedy(box_iou), nms, _read, dtypes=_ONE, exact=False),
    Case(
        "nms_rotated", "1000 boxes", _boxes(1000, True), _greedy(_rotated_iou), nms_rotated,
        _read, dtypes=_ONE, exact=False,
    ),
    Case(
        "rotated_intersection", "1000 x 1000 boxes", _areas, lambda a, b: _intersection(a[:, None], b[None]),
        rotated_intersection, lambda a, b: size_bytes(a, b) + 4 * len(a) * len(b), dtypes=_ONE,
    ),
    Case(
        "query_candidates", "DETR3D: 900 queries x 10 classes, best 300", _queries, _query_reference, _our_queries,
        _read, dtypes=_ONE, exact=False,
    ),
    Case(
        "center_candidates", "BEVDet, a task of two classes: 128x128 cells, best 500", _cells, _plain_cells, _our_cells,
        _read, dtypes=_ONE, exact=False,
    ),
]  # fmt: skip
