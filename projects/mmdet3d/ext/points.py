"""Point sets and points in boxes. mmcv's indices are int32; its boxes here have the z of their bottom."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bev.ops import ball_query, box_of_points, furthest_point_sampling, three_interpolate, three_nn
from bev.ops.points_in_boxes import points_in_boxes
from projects.mmdet3d.ext.gradients import pull_back

__all__ = [
    *("ball_query_forward", "furthest_point_sampling_forward", "gather_points_forward", "gather_points_backward"),
    *("group_points_forward", "group_points_backward", "three_nn_forward"),
    *("three_interpolate_forward", "three_interpolate_backward"),
    *("points_in_boxes_cpu_forward", "points_in_boxes_part_forward", "points_in_boxes_all_forward"),
]


def _from_bottom(boxes: Tensor) -> Tensor:
    """(..., 7) boxes with the z of their bottom -> with that of their centre."""
    x, y, z, length, width, height, yaw = boxes.unbind(-1)
    return torch.stack([x, y, z + height / 2, length, width, height, yaw], -1)


def points_in_boxes_cpu_forward(boxes: Tensor, pts: Tensor, pts_indices: Tensor) -> None:
    """Write whether each of (P, 3) points is in each of (M, 7) boxes into ``pts_indices`` (M, P)."""
    pts_indices.copy_(points_in_boxes(pts[None], _from_bottom(boxes)[None])[0].t())


def points_in_boxes_part_forward(boxes: Tensor, pts: Tensor, box_idx_of_points: Tensor) -> None:
    """Write the first of the boxes (B, M, 7) that each point (B, P, 3) lies in, or -1."""
    box_idx_of_points.copy_(box_of_points(pts, _from_bottom(boxes)))


def points_in_boxes_all_forward(boxes: Tensor, pts: Tensor, box_idx_of_points: Tensor) -> None:
    """Write whether each point (B, P, 3) is in each box (B, M, 7) into (B, P, M)."""
    box_idx_of_points.copy_(points_in_boxes(pts, _from_bottom(boxes)))


def ball_query_forward(
    new_xyz: Tensor, xyz: Tensor, idx: Tensor, min_radius: float, max_radius: float, nsample: int, **sizes: int
) -> None:
    """Write the first ``nsample`` points (B, P, 3) around each centre (B, Q, 3) into ``idx`` (B, Q, nsample)."""
    idx.copy_(ball_query(xyz, new_xyz, max_radius, nsample, min_radius))


def furthest_point_sampling_forward(points: Tensor, temp: Tensor, idx: Tensor, m: int, **sizes: int) -> None:
    """Write ``m`` points of (B, P, 3) into ``idx`` (B, m)."""
    idx.copy_(furthest_point_sampling(points, m))


def _take(points: Tensor, index: Tensor) -> Tensor:
    """(B, C, P) features and (B, ...) indices -> (B, C, ...)."""
    flat = index.long().flatten(1)[:, None].expand(-1, points.shape[1], -1)
    return points.gather(2, flat).unflatten(2, index.shape[1:])


def gather_points_forward(points: Tensor, idx: Tensor, out: Tensor, **sizes: int) -> None:
    """Write features (B, C, P) of the points ``idx`` (B, Q) into (B, C, Q)."""
    out.copy_(_take(points, idx))


def gather_points_backward(grad_out: Tensor, idx: Tensor, grad_points: Tensor, **sizes: int) -> None:
    """Add the features' gradient to ``grad_points`` (B, C, P)."""
    grad_points.add_(pull_back(lambda x: _take(x, idx), (grad_points,), grad_out)[0])


def group_points_forward(points: Tensor, idx: Tensor, out: Tensor, **sizes: int) -> None:
    """Write features (B, C, P) of the points ``idx`` (B, Q, K) into (B, C, Q, K)."""
    out.copy_(_take(points, idx))


def group_points_backward(grad_out: Tensor, idx: Tensor, grad_points: Tensor, **sizes: int) -> None:
    """Add the features' gradient to ``grad_points`` (B, C, P)."""
    grad_points.add_(pull_back(lambda x: _take(x, idx), (grad_points,), grad_out)[0])


def three_nn_forward(unknown: Tensor, known: Tensor, dist2: Tensor, idx: Tensor, **sizes: int) -> None:
    """Write squared distances and indices (B, Q, 3) of the nearest of ``known`` (B, P, 3)."""
    distance, index = three_nn(unknown, known)
    dist2.copy_(distance.square())
    idx.copy_(index)


def three_interpolate_forward(points: Tensor, idx: Tensor, weight: Tensor, out: Tensor, **sizes: int) -> None:
    """Write the weighted sums (B, C, Q)."""
    out.copy_(three_interpolate(points, idx.long(), weight))


def three_interpolate_backward(
    grad_out: Tensor, idx: Tensor, weight: Tensor, grad_points: Tensor, **sizes: Any
) -> None:
    """Add the features' gradient to ``grad_points`` (B, C, P)."""
    grads = pull_back(lambda x: three_interpolate(x, idx.long(), weight), (grad_points,), grad_out)
    grad_points.add_(grads[0])
