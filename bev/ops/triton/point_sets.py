"""Furthest points, neighbourhoods and nearest points on the GPU, without the matrix of all distances.

Sums and products are not contracted, so that decisions are those of the torch form.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_FURTHEST, _QUERIES, _POINTS = 1024, 16, 64  # points a step of the first kernel; sides of the others' tiles


@triton.jit
def _furthest(  # type: ignore[no-untyped-def]
    points, distance, chosen, number, count, AXES: tl.constexpr, BLOCK: tl.constexpr
):
    """One set a program: distances to what is chosen stay in memory, each read and written by the same thread."""
    frame = tl.program_id(0).to(tl.int64)
    points += frame * number * AXES
    distance += frame * number
    last = frame * 0
    tl.store(chosen + frame * count, last)
    for step in range(1, count):
        best, place = tl.full((BLOCK,), -1.0, tl.float32), tl.zeros((BLOCK,), tl.int32)
        for start in range(0, number, BLOCK):
            index = start + tl.arange(0, BLOCK)
            squared = tl.zeros((BLOCK,), tl.float32)
            for axis in tl.static_range(AXES):
                apart = tl.load(points + index.to(tl.int64) * AXES + axis, index < number, 0.0)
                apart -= tl.load(points + last * AXES + axis)
                squared += apart * apart
            known = tl.minimum(tl.load(distance + index, index < number, -1.0), squared)
            tl.store(distance + index, known, index < number)
            further = (known > best) & (index < number)
            best, place = tl.where(further, known, best), tl.where(further, index, place)
        last = tl.min(tl.where(best == tl.max(best, 0), place, number), 0).to(tl.int64)
        last = tl.minimum(last, number - 1)  # coordinates that are no numbers lead nowhere, and not out of memory
        tl.store(chosen + frame * count + step, last)


@triton.jit
def _squared(queries, points, frame, query, index, asked, number):  # type: ignore[no-untyped-def]
    """(Q, P) squared distances, by differences."""
    total = tl.zeros((query.shape[0], index.shape[0]), tl.float32)
    for axis in tl.static_range(3):
        a = tl.load(queries + 3 * (frame * asked + query) + axis, query < asked, 0.0)
        b = tl.load(points + 3 * (frame * number + index) + axis, index < number, 0.0)
        apart = a[:, None] - b[None]
        total += apart * apart
    return total


@triton.jit
def _ball(  # type: ignore[no-untyped-def]
    centers, points, least, most, out, asked, number, COUNT: tl.constexpr,
    SLOTS: tl.constexpr, QUERIES: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    frame = tl.program_id(1).to(tl.int64)
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    row = out + (frame * asked + query) * COUNT
    found, first = tl.zeros((QUERIES,), tl.int32), tl.full((QUERIES,), number, tl.int32)
    start = 0
    while (start < number) & (tl.min(tl.where(query < asked, found, COUNT), 0) < COUNT):
        index = start + tl.arange(0, POINTS)
        squared = _squared(centers, points, frame, query, index, asked, number)
        near = (squared == 0) | ((squared >= least) & (squared < most))
        near = near & (index < number)[None] & (query < asked)[:, None]
        place = found[:, None] + tl.cumsum(near.to(tl.int32), 1) - 1
        value = tl.zeros_like(place).to(tl.int64) + index[None]
        tl.store(row[:, None] + place, value, near & (place < COUNT))
        first = tl.minimum(first, tl.min(tl.where(near, index[None], number), 1))
        found += tl.sum(near.to(tl.int32), 1)
        start += POINTS
    slot = tl.arange(0, SLOTS)
    rest = (slot[None] >= found[:, None]) & (slot < COUNT)[None] & (query < asked)[:, None]
    value = tl.zeros((QUERIES, SLOTS), tl.int64) + tl.where(first < number, first, 0)[:, None]
    tl.store(row[:, None] + slot[None], value, rest)


@triton.jit
def _nearest(  # type: ignore[no-untyped-def]
    targets, sources, distances, indices, asked, number, QUERIES: tl.constexpr, POINTS: tl.constexpr
):
    frame = tl.program_id(1).to(tl.int64)
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    far: tl.constexpr = float("inf")
    d1 = tl.full((QUERIES,), far, tl.float32)
    d2, d3 = d1, d1
    i1 = tl.zeros((QUERIES,), tl.int32)
    i2, i3 = i1, i1
    for start in range(0, number, POINTS):
        index = start + tl.arange(0, POINTS)
        squared = _squared(targets, sources, frame, query, index, asked, number)
        squared = tl.where((index < number)[None] & (squared == squared), squared, far)
        for _ in tl.static_range(3):
            value = tl.min(squared, 1)
            place = tl.min(tl.where(squared == value[:, None], index[None], number), 1)
            squared = tl.where(index[None] == place[:, None], far, squared)
            # Earlier indices stay before later ones of the same distance.
            to1, to2, to3 = value < d1, value < d2, value < d3
            d3, i3 = tl.where(to2, d2, tl.where(to3, value, d3)), tl.where(to2, i2, tl.where(to3, place, i3))
            d2, i2 = tl.where(to1, d1, tl.where(to2, value, d2)), tl.where(to1, i1, tl.where(to2, place, i2))
            d1, i1 = tl.where(to1, value, d1), tl.where(to1, place, i1)
    place, live = 3 * (frame * asked + query), query < asked
    tl.store(distances + place, tl.sqrt_rn(d1), live)
    tl.store(distances + place + 1, tl.sqrt_rn(d2), live)
    tl.store(distances + place + 2, tl.sqrt_rn(d3), live)
    tl.store(indices + place, i1.to(tl.int64), live)
    tl.store(indices + place + 1, i2.to(tl.int64), live)
    tl.store(indices + place + 2, i3.to(tl.int64), live)


def furthest_points(points_m: Tensor, count: int) -> Tensor:
    """As ``bev.ops.point_sets._furthest_points`` for float32."""
    batch, number, axes = points_m.shape
    chosen = points_m.new_zeros(batch, count, dtype=torch.int64)
    if chosen.numel():
        distance = points_m.new_full((batch, number), float("inf"))
        sizes = {"AXES": axes, "BLOCK": min(_FURTHEST, max(32, triton.next_power_of_2(number)))}
        options = {"num_warps": 8, "enable_fp_fusion": False}
        _furthest[(batch,)](points_m.contiguous(), distance, chosen, number, count, **sizes, **options)
    return chosen


def ball(points_m: Tensor, center_m: Tensor, least: float, most: float, count: int) -> Tensor:
    """First ``count`` points whose squared distance is 0 or in [least, most), for float32; there are some of both."""
    (batch, number, _), asked = points_m.shape, center_m.shape[1]
    out = center_m.new_empty(batch, asked, count, dtype=torch.int64)
    grid = triton.cdiv(asked, _QUERIES), batch
    sizes = {"COUNT": count, "SLOTS": triton.next_power_of_2(count), "QUERIES": _QUERIES, "POINTS": _POINTS}
    inputs = center_m.contiguous(), points_m.contiguous(), least, most
    _ball[grid](*inputs, out, asked, number, **sizes, enable_fp_fusion=False)
    return out


def nearest(target_m: Tensor, source_m: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`bev.ops.point_sets.three_nn` for float32; there are targets."""
    (batch, asked, _), number = target_m.shape, source_m.shape[1]
    distances = target_m.new_empty(batch, asked, 3)
    indices = torch.empty_like(distances, dtype=torch.int64)
    grid = triton.cdiv(asked, _QUERIES), batch
    inputs = target_m.contiguous(), source_m.contiguous(), distances, indices
    _nearest[grid](*inputs, asked, number, QUERIES=_QUERIES, POINTS=_POINTS, enable_fp_fusion=False)
    return distances, indices
