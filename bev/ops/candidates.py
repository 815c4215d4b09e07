"""From a head's raw maps to its best boxes: sigmoid, peaks, top-k, decoding and filter in one pass.

On a GPU blocks of scores are ranked, then the blocks' best, and the last ranking decodes its boxes: no score map, no
index and no gathered code is written. Elsewhere, and as the oracle of the tests, the steps follow one another in torch.
Equal scores are ranked by their place, lower first, on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.ops.triton import takes
from bev.structures import Boxes3D
from bev.structures.boxes3d import Frame

_MOST = 1024  # candidates that the kernels rank


class Candidates(NamedTuple):
    """The best boxes of B frames, by falling score.

    Attributes:
        boxes: (B, M, 9) x, y, z, l, w, h (m), yaw (rad, counter-clockwise from +x), vx, vy (m/s), float32.
        score: (B, M) float32.
        label: (B, M) int64.
        valid: (B, M) bool: above the threshold and inside the range.
    """

    boxes: Tensor
    score: Tensor
    label: Tensor
    valid: Tensor

    def frame(self, index: int, frame: Frame) -> Boxes3D:
        """The valid boxes of one frame."""
        box, kept = self.boxes[index], self.valid[index]
        label, score = self.label[index], self.score[index]
        return Boxes3D(box[:, :3], box[:, 3:6], box[:, 6], box[:, 7:9], label, score, frame)[kept]


def query_candidates(
    logits: Tensor,  # (B, Q, classes)
    codes: Tensor,  # (B, Q, 10 or 8)
    count: int,
    range_m: Sequence[float],
    score_threshold: float = 0.0,
    legacy: bool = False,
) -> Candidates:
    """The best (query, class) pairs of a set-prediction head (DETR3D, BEVFormer, PETR: ``NMSFreeCoder``).

    Args:
        logits: any float dtype; ranked by their sigmoid in float32.
        codes: cx, cy, log l, log w, cz, log h, sin, cos and, of ten, vx, vy (see ``structures.conventions``).
        count: boxes a frame, at most.
        range_m: x, y, z of two corners; a centre on the border is inside.
        score_threshold: scores below it are not valid.
        legacy: codes of mmdet3d < 1.0.

    Raises:
        ValueError: the shapes disagree.
    """
    if codes.shape[:2] != logits.shape[:2] or codes.shape[-1] not in (8, 10) or len(range_m) != 6:
        raise ValueError(
            f"query_candidates: logits {tuple(logits.shape)} and codes {tuple(codes.shape)} should be (B, Q, classes) "
            f"and (B, Q, 8 or 10), range_m six numbers, got {len(range_m)}"
        )
    limits = [float(x) for x in range_m]
    return Candidates(*_query_candidates(logits.detach(), codes.detach(), count, limits, score_threshold, legacy))


def center_candidates(
    heatmap: Tensor,  # (B, classes, Y, X)
    maps: Sequence[Tensor],  # ten channels together, each (B, c, Y, X)
    count: int,
    origin_m: tuple[float, float],
    cell_m: tuple[float, float],
    range_m: Sequence[float] = (),
    score_threshold: float = 0.0,
    peaks: bool = True,
    largest_log: float = 5.0,
    legacy: bool = False,
) -> Candidates:
    """The best cells of one task of a CenterPoint head (arXiv 2006.11275).

    Args:
        heatmap: logits.
        maps: dx, dy (cells from the cell's lower corner), z (m), log l, log w, log h, sin, cos, vx, vy (m/s), in one
            tensor or dealt out to several.
        count: boxes a frame, at most.
        origin_m, cell_m: x and y of the first cell's lower corner, and sizes of a cell.
        range_m: x, y, z of two corners; empty: no limit.
        score_threshold: scores must be above it.
        peaks: a cell counts only if none of its eight neighbours is higher in the same class, else its score is zero.
        largest_log: log sizes are cut there.
        legacy: sizes and yaw of mmdet3d < 1.0.

    Returns:
        Candidates whose ``label`` is the class within the task.

    Raises:
        ValueError: the shapes disagree.
    """
    channels = sum(part.shape[1] for part in maps)
    if channels != 10 or any(part.shape[2:] != heatmap.shape[2:] or len(part) != len(heatmap) for part in maps):
        shapes = [tuple(part.shape) for part in maps]
        raise ValueError(f"center_candidates: maps {shapes} should be ten channels on {tuple(heatmap.shape[2:])} cells")
    if len(range_m) not in (0, 6):
        raise ValueError(f"center_candidates: range_m is six numbers or none, got {len(range_m)}")
    numbers = [*origin_m, *cell_m, float(largest_log), *range_m]
    parts = [part.detach() for part in maps]
    found = _center_candidates(heatmap.detach(), parts, count, numbers, score_threshold, peaks, legacy)
    return Candidates(*found)


def _top(score: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(B, M) -> the best scores and their places; equal ones by rising place."""
    order = score.sort(dim=1, descending=True, stable=True)
    return order.values[:, :count], order.indices[:, :count]


def _turned(columns: list[Tensor], legacy: bool) -> Tensor:
    """x, y, z, two sides, height, yaw, vx, vy -> (..., 9), the sides and the yaw from the older convention if asked."""
    x, y, z, first, second, tall, yaw, vx, vy = columns
    if legacy:
        first, second, yaw = second, first, torch.remainder(-yaw + math.pi / 2, 2 * math.pi) - math.pi
    return torch.stack([x, y, z, first, second, tall, yaw, vx, vy], -1)


def _within(boxes: Tensor, limits: Sequence[float]) -> Tensor:
    center, (low, high) = boxes[..., :3], boxes.new_tensor(limits).view(2, 3)
    return ((center >= low) & (center <= high)).all(-1)


def _query_reference(
    logits: Tensor, codes: Tensor, count: int, limits: Sequence[float], score_threshold: float, legacy: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The steps one after the other."""
    classes = max(1, logits.shape[2])
    score, index = _top(logits.float().sigmoid().flatten(1), count)
    query = index // classes
    chosen = codes.float().gather(1, query.unsqueeze(-1).expand(-1, -1, codes.shape[-1])).unbind(-1)
    x, y, first, second, z, tall, sin, cos = chosen[:8]
    velocity = list(chosen[8:]) or [torch.full_like(x, math.nan)] * 2
    sides = [first.exp(), second.exp(), tall.exp()]
    boxes = _turned([x, y, z, *sides, torch.atan2(sin, cos), *velocity], legacy)
    return boxes, score, index % classes, _within(boxes, limits) & (score >= score_threshold)


def _center_reference(
    heatmap: Tensor,
    maps: Sequence[Tensor],
    count: int,
    numbers: Sequence[float],
    score_threshold: float,
    peaks: bool,
    legacy: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The steps one after the other."""
    x0, y0, step_x, step_y, largest, *limits = numbers
    width, cells = heatmap.shape[3], max(1, heatmap.shape[2] * heatmap.shape[3])
    heat = heatmap.float().sigmoid()
    if peaks and heat.numel():
        heat = torch.where(F.max_pool2d(heat, 3, 1, 1) == heat, heat, 0.0)
    score, index = _top(heat.flatten(1), count)
    cell = index % cells
    table = torch.cat([part.float() for part in maps], 1).flatten(2)
    dx, dy, z, first, second, tall, sin, cos, vx, vy = table.gather(2, cell[:, None].expand(-1, 10, -1)).unbind(1)
    x, y = (cell % width + dx) * step_x + x0, (cell // width + dy) * step_y + y0
    sides = [side.clamp(max=largest).exp() for side in (first, second, tall)]
    yaw = torch.remainder(torch.atan2(sin, cos) + math.pi, 2 * math.pi) - math.pi
    boxes = _turned([x, y, z, *sides, yaw, vx, vy], legacy)
    valid = score > score_threshold
    return boxes, score, index // cells, valid & _within(boxes, limits) if limits else valid


def _by_kernel(scores: Tensor, count: int) -> bool:
    return takes(scores.device) and 0 < count <= _MOST and scores.numel() > 0


@torch.library.custom_op("bev::query_candidates", mutates_args=())
def _query_candidates(
    logits: Tensor, codes: Tensor, count: int, limits: Sequence[float], score_threshold: float, legacy: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if _by_kernel(logits, count):
        from bev.ops.triton import candidates as kernels

        return kernels.of_queries(logits, codes, count, limits, score_threshold, legacy)
    found = _query_reference(logits, codes, count, limits, score_threshold, legacy)
    return tuple(x.contiguous() for x in found)  # type: ignore[return-value]


@_query_candidates.register_fake
def _(
    logits: Tensor, codes: Tensor, count: int, limits: Sequence[float], score_threshold: float, legacy: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    most = min(count, logits.shape[1] * logits.shape[2])
    rows = logits.new_empty(logits.shape[0], most, dtype=torch.float32)
    return rows.new_empty(*rows.shape, 9), rows, rows.new_empty(rows.shape, dtype=torch.int64), rows.to(torch.bool)


@torch.library.custom_op("bev::center_candidates", mutates_args=())
def _center_candidates(
    heatmap: Tensor,
    maps: Sequence[Tensor],
    count: int,
    numbers: Sequence[float],
    score_threshold: float,
    peaks: bool,
    legacy: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if _by_kernel(heatmap, count):
        from bev.ops.triton import candidates as kernels

        return kernels.of_cells(heatmap, maps, count, numbers, score_threshold, peaks, legacy)
    found = _center_reference(heatmap, maps, count, numbers, score_threshold, peaks, legacy)
    return tuple(x.contiguous() for x in found)  # type: ignore[return-value]


@_center_candidates.register_fake
def _(
    heatmap: Tensor,
    maps: Sequence[Tensor],
    count: int,
    numbers: Sequence[float],
    score_threshold: float,
    peaks: bool,
    legacy: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    most = min(count, heatmap.shape[1] * heatmap.shape[2] * heatmap.shape[3])
    rows = heatmap.new_empty(heatmap.shape[0], most, dtype=torch.float32)
    return rows.new_empty(*rows.shape, 9), rows, rows.new_empty(rows.shape, dtype=torch.int64), rows.to(torch.bool)
