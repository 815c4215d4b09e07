"""Sampling, neighbourhoods and interpolation of point sets (PointNet++)."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops.exporting import is_exporting
from bev.ops.triton import takes

_PAIRS = 1 << 20  # distances at a time


def furthest_point_sampling(points_m: Tensor, count: int) -> Tensor:
    """Points chosen one after another, each the furthest from all chosen before, beginning with the first.

    Args:
        points_m: (B, P, D), any number of dimensions.
        count: how many, at most P.

    Returns:
        (B, count) int64 indices (ties: lower index first).

    Raises:
        ValueError: more points asked for than there are.

    Reference: Qi et al., PointNet++ (NeurIPS 2017), section 3.2.
    """
    if not 0 <= count <= points_m.shape[1]:
        raise ValueError(f"furthest_point_sampling: {count} of {points_m.shape[1]} points asked for")
    return _furthest_points(points_m.detach().to(torch.promote_types(points_m.dtype, torch.float32)), count)


@torch.library.custom_op("bev::furthest_point_sampling", mutates_args=())
def _furthest_points(points_m: Tensor, count: int) -> Tensor:
    if takes(points_m.device) and points_m.dtype == torch.float32:
        from bev.ops.triton import point_sets as kernels

        return kernels.furthest_points(points_m, count)
    batch, number, _ = points_m.shape
    chosen = torch.zeros(batch, count, dtype=torch.int64, device=points_m.device)
    distance = points_m.new_full((batch, number), float("inf"))
    columns, rows = points_m.permute(2, 0, 1).contiguous(), torch.arange(batch, device=points_m.device)
    for step in range(1, count):
        last = columns[:, rows, chosen[:, step - 1]]
        squared = sum((axis - at[:, None]).square_() for axis, at in zip(columns, last))
        distance = torch.minimum(distance, squared, out=distance)
        chosen[:, step] = distance.argmax(1)
    return chosen


@_furthest_points.register_fake
def _(points_m: Tensor, count: int) -> Tensor:
    return points_m.new_empty(len(points_m), count, dtype=torch.int64)


def ball_query(
    points_m: Tensor, center_m: Tensor, max_radius_m: float, count: int, min_radius_m: float = 0.0
) -> Tensor:
    """First points within a shell around each centre.

    Args:
        points_m: (B, P, 3).
        center_m: (B, Q, 3).
        max_radius_m: points at that distance are outside.
        count: how many to find; where fewer are found the first one fills the rest.
        min_radius_m: nearer points are left out, but for those that coincide with the centre.

    Returns:
        (B, Q, count) int64 indices, rising; zeros where nothing is found.

    Raises:
        ValueError: a count below one.

    Reference: Qi et al., PointNet++ (NeurIPS 2017), section 3.2.
    """
    if count < 1:
        raise ValueError(f"ball_query: count must be positive, got {count}")
    if _kernels_take(points_m, center_m):
        return _ball(points_m.detach(), center_m.detach(), min_radius_m**2, max_radius_m**2, count)
    batch, number, _ = points_m.shape
    parts = [torch.zeros(batch, 0, count, dtype=torch.int64, device=points_m.device)]
    if not number:
        return parts[0].new_zeros(batch, center_m.shape[1], count)
    for centers in center_m.split(max(1, _PAIRS // max(1, batch * number)), 1):
        squared = _squared_distance(centers, points_m)
        near = (squared == 0) | ((squared >= min_radius_m**2) & (squared < max_radius_m**2))
        # Position of the points found, the others after them: the smallest ones are the first found.
        position = torch.where(near, torch.arange(number, device=near.device), number)
        found = position.topk(min(count, number), dim=2, largest=False, sorted=True).values
        found = torch.nn.functional.pad(found, (0, count - found.shape[2]), value=number)
        first = torch.where(found[..., :1] < number, found[..., :1], 0)
        parts.append(torch.where(found < number, found, first))
    return torch.cat(parts, 1)


def _kernels_take(points_m: Tensor, queries_m: Tensor) -> bool:
    single = points_m.dtype == queries_m.dtype == torch.float32
    return takes(points_m.device) and single and not is_exporting() and bool(points_m.numel() and queries_m.numel())


@torch.library.custom_op("bev::ball_query", mutates_args=())
def _ball(points_m: Tensor, center_m: Tensor, least: float, most: float, count: int) -> Tensor:
    """The Triton kernel, one node of a compiled graph; limits are squared."""
    from bev.ops.triton import point_sets as kernels

    return kernels.ball(points_m, center_m, least, most, count)


@_ball.register_fake
def _(points_m: Tensor, center_m: Tensor, least: float, most: float, count: int) -> Tensor:
    return points_m.new_empty(*center_m.shape[:2], count, dtype=torch.int64)


@torch.library.custom_op("bev::three_nn", mutates_args=())
def _three_nn(target_m: Tensor, source_m: Tensor) -> tuple[Tensor, Tensor]:
    """The Triton kernel, one node of a compiled graph."""
    from bev.ops.triton import point_sets as kernels

    return kernels.nearest(target_m, source_m)


@_three_nn.register_fake
def _(target_m: Tensor, source_m: Tensor) -> tuple[Tensor, Tensor]:
    return target_m.new_empty(target_m.shape), target_m.new_empty(target_m.shape, dtype=torch.int64)


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """(B, Q, D) and (B, P, D) -> (B, Q, P), by differences: |a|^2 + |b|^2 - 2ab loses what lies close together."""
    return sum(
        ((x[:, :, None] - y[:, None]).square() for x, y in zip(a.unbind(2), b.unbind(2))),
        start=a.new_zeros(()),
    )


def three_nn(target_m: Tensor, source_m: Tensor) -> tuple[Tensor, Tensor]:
    """The three nearest sources of every target.

    Args:
        target_m: (B, Q, 3).
        source_m: (B, P, 3), P at least three.

    Returns:
        (B, Q, 3) distances in m, rising, and (B, Q, 3) int64 indices. Not differentiable.

    Raises:
        ValueError: fewer than three sources.
    """
    if source_m.shape[1] < 3:
        raise ValueError(f"three_nn: three sources are needed, got {source_m.shape[1]}")
    if _kernels_take(source_m, target_m):
        return _three_nn(target_m.detach(), source_m.detach())
    batch, number, _ = source_m.shape
    distances = [target_m.new_zeros(batch, 0, 3)]
    indices = [torch.zeros(batch, 0, 3, dtype=torch.int64, device=target_m.device)]
    for targets in target_m.detach().split(max(1, _PAIRS // max(1, batch * number)), 1):
        nearest = _squared_distance(targets, source_m.detach()).topk(3, dim=2, largest=False, sorted=True)
        distances.append(nearest.values.sqrt())
        indices.append(nearest.indices)
    return torch.cat(distances, 1), torch.cat(indices, 1)


def three_interpolate(features: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum of three sources' features.

    Args:
        features: (B, C, P).
        index: (B, Q, 3) int64 into P, e.g. from :func:`three_nn`.
        weight: (B, Q, 3), e.g. inverse distances that sum to one.

    Returns:
        (B, C, Q) in the features' dtype. Differentiable with respect to features and weights.
    """
    batch, channels, _ = features.shape
    flat = index.flatten(1)[:, None].expand(batch, channels, -1)
    return (features.gather(2, flat).unflatten(2, index.shape[1:]) * weight[:, None].to(features.dtype)).sum(-1)
