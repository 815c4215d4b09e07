"""Regions of interest, focal loss, point sets, points in boxes and CARAFE at the sizes of published detectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.case import Build, Case, size_bytes
from bev.ops.carafe import _carafe_reference, carafe
from bev.ops.focal_loss import _focal_loss_reference, sigmoid_focal_loss
from bev.ops.point_sets import _squared_distance, ball_query, furthest_point_sampling, three_nn
from bev.ops.points_in_boxes import _inside, points_in_boxes
from bev.ops.roi_align import _pool_reference, roi_align
from bev.ops.roi_pool import roi_pool

_ONE = (torch.float32,)


def _regions(bins: int, height: int, width: int, regions: int) -> Build:
    def inputs(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
        g = torch.Generator().manual_seed(0)
        shape, count = ((2, 4, 6, 8), 3) if quick else ((2, 256, height, width), regions)
        corner = torch.rand(count, 2, generator=g) * torch.tensor([shape[3] * 3.0, shape[2] * 3.0])
        size = 8 + torch.rand(count, 2, generator=g) * 100
        picture = torch.randint(0, 2, (count, 1), generator=g)
        rois = torch.cat([picture, corner, corner + size], 1).to(device)
        maps = torch.randn(shape, generator=g).to(device, dtype, memory_format=torch.channels_last)
        return maps.requires_grad_(), rois, 2 if quick else bins, 0.25

    return inputs


def _plain_align(maps: Tensor, rois: Tensor, bins: int, scale: float) -> Tensor:
    wide = torch.promote_types(maps.dtype, torch.float32)
    low, high = rois[:, 1:3].to(wide) * scale - 0.5, rois[:, 3:5].to(wide) * scale - 0.5
    turn = torch.stack([torch.ones_like(low[:, 0]), torch.zeros_like(low[:, 0])], -1)
    frames = torch.cat([(low + high) / 2, high - low, turn], 1)
    return _pool_reference(maps.to(wide), rois[:, 0].long(), frames, bins, bins, 2).to(maps.dtype)


def _our_align(maps: Tensor, rois: Tensor, bins: int, scale: float) -> Tensor:
    return roi_align(maps, rois, bins, scale, 2)


def _align_bytes(maps: Tensor, rois: Tensor, bins: int, scale: float) -> int:
    """Every map once, every bin written once."""
    return size_bytes(maps, rois) + len(rois) * maps.shape[1] * bins * bins * maps.element_size()


def _plain_pool(maps: Tensor, rois: Tensor, bins: int, scale: float) -> Tensor:
    """Cells of each bin by masks along rows and columns: the largest cell of each row first, then of the rows."""
    parts = []
    for roi in rois.double().tolist():
        masks = []
        for low, high, size in ((roi[2], roi[4], maps.shape[2]), (roi[1], roi[3], maps.shape[3])):
            step, cell = (high + 1 - low) * scale / bins, torch.arange(size, device=maps.device)
            start = low * scale + torch.arange(bins, device=maps.device)[:, None] * step
            masks.append((cell >= start.floor()) & (cell < (start + step).ceil()))
        row = torch.stack([maps[int(roi[0])].where(m, -torch.inf).amax(2) for m in masks[1]], 2)
        parts.append(torch.stack([row.where(m[:, None], -torch.inf).amax(1) for m in masks[0]], 1))
    return torch.stack(parts).nan_to_num(neginf=0.0)


def _logits(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
    g = torch.Generator().manual_seed(0)
    rows, classes = (7, 3) if quick else (2 * 22_400, 80)
    label = torch.randint(0, classes + 1, (rows,), generator=g)
    return torch.randn(rows, classes, generator=g).to(device, dtype).requires_grad_(), label.to(device), 2.0, 0.25


def _points(count: int, asked: int) -> Build:
    def inputs(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
        g = torch.Generator().manual_seed(0)
        shape = (1, 30, 3) if quick else (4, count, 3)
        points = (torch.rand(shape, generator=g) * 4).to(device, dtype)
        return points[:, : 5 if quick else asked].contiguous(), points

    return inputs


def _plain_furthest(targets: Tensor, points: Tensor) -> Tensor:
    chosen = torch.zeros(targets.shape[:2], dtype=torch.int64, device=points.device)
    distance = points.new_full(points.shape[:2], torch.inf)
    for step in range(1, chosen.shape[1]):
        last = points.gather(1, chosen[:, step - 1, None, None].expand(-1, 1, 3))
        distance = torch.minimum(distance, _squared_distance(last, points)[:, 0])
        chosen[:, step] = distance.argmax(1)
    return chosen


def _plain_ball(targets: Tensor, points: Tensor) -> Tensor:
    near, number = _squared_distance(targets, points) < 1, points.shape[1]
    found = torch.where(near, torch.arange(number, device=points.device), number).topk(16, largest=False).values
    return torch.where(found < number, found, found[..., :1])


def _plain_nearest(targets: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    nearest = _squared_distance(targets, points).topk(3, largest=False)
    return nearest.values.sqrt(), nearest.indices


def _boxes(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
    g = torch.Generator().manual_seed(0)
    count, boxes = (20, 3) if quick else (250_000, 60)
    points = torch.rand(1, count, 3, generator=g) * 80
    return points.to(device, dtype), (torch.rand(1, boxes, 7, generator=g) * 80).to(device, dtype)


def _fine(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
    g = torch.Generator().manual_seed(0)
    shape, side = ((1, 3, 2, 3), 3) if quick else ((2, 256, 100, 152), 5)
    masks = torch.randn(shape[0], side**2, shape[2] * 2, shape[3] * 2, generator=g).softmax(1)
    maps = torch.randn(shape, generator=g)
    return maps.to(device, dtype).requires_grad_(), masks.to(device, dtype).requires_grad_(), side, 2


CASES = [
    Case(
        "roi_align", "Faster R-CNN: 1000 regions of 2x256x200x304, 7x7 bins",
        _regions(7, 200, 304, 1000), _plain_align, _our_align, _align_bytes,
    ),
    Case(
        "roi_pool", "100 regions of 2x256x50x76, 7x7 bins", _regions(7, 50, 76, 100), _plain_pool, roi_pool,
        _align_bytes, dtypes=_ONE,
    ),
    Case(
        "sigmoid_focal_loss", "RetinaNet: 44800 anchors, 80 classes", _logits, _focal_loss_reference,
        sigmoid_focal_loss, lambda logits, *_: 2 * size_bytes(logits), dtypes=_ONE,
    ),
    Case(
        "furthest_point_sampling", "4x64 of 16384 points", _points(16_384, 64), _plain_furthest,
        lambda targets, points: furthest_point_sampling(points, targets.shape[1]), dtypes=_ONE, exact=False,
    ),
    Case(
        "ball_query", "PointNet++: 4x1024 centres, 16384 points, 16 each", _points(16_384, 1024), _plain_ball,
        lambda targets, points: ball_query(points, targets, 1.0, 16), dtypes=_ONE, exact=False,
    ),
    Case(
        "three_nn", "PointNet++: 4x4096 targets, 16384 sources", _points(16_384, 4096), _plain_nearest,
        three_nn, dtypes=_ONE, exact=False,
    ),
    Case(
        "points_in_boxes", "250000 points, 60 boxes", _boxes, lambda p, b: _inside(p, b), points_in_boxes,
        lambda p, b: size_bytes(p, b) + p.shape[1] * b.shape[1], dtypes=_ONE, exact=False,
    ),
    Case(
        "carafe", "FPN: 2x256x100x152, 5x5 neighbours, twice as fine", _fine, _carafe_reference, carafe,
        lambda maps, masks, *_: 5 * size_bytes(maps) + size_bytes(masks),
        lambda maps, masks, *_: 2 * masks.numel() * maps.shape[1],
    ),
]  # fmt: skip
