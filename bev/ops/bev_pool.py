"""Lift-splat pooling: sum depth-weighted pixel features into the cells of a bird's-eye-view grid.

``out[cell] = sum over points in the cell of depth[point] * features[pixel of the point]`` (LSS, arXiv 2008.05711,
without its cumulative-sum trick). The fast form never builds the (points x channels) volume: with the points sorted by
cell the sum is one weighted ``embedding_bag`` over the feature rows; the gradient of the features is the transposed bag
over the output rows, that of the depth a product sampled at the (pixel, cell) pairs.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.ops.exporting import plugin_node, wants_plugins
from bev.ops.pool_tables import PoolTables, bev_pool_by_tables
from bev.ops.triton import takes

# torch announces its CSR tensors as beta once a process; the tests hold the one operation used here to the plain form.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


class PoolPlan(NamedTuple):
    """Where each of R pixels' D points falls, in both orders.

    Attributes:
        cell_of_point: (R, D) int64 in [0, G]; G stands for "outside the grid".
        order: (K,) int64, the inside points' flat indices r * D + d, sorted by cell (stable).
        offsets: (G + 1,) int64, start of each cell's run in ``order``; the last entry is K.
        pixel: (K,) int64, the pixel r of each entry of ``order``: a division of every index that a fixed rig need not
            pay in every frame.
    """

    cell_of_point: Tensor
    order: Tensor
    offsets: Tensor
    pixel: Tensor


class PoolRuns(NamedTuple):
    """What the plugin of an exported graph reads of a plan.

    Attributes:
        order, offsets: as in :class:`PoolPlan`, int32.
        rows: R that they tell of; features of several times R rows are pooled frame by frame. None: all.
    """

    order: Tensor
    offsets: Tensor
    rows: int | None = None


def plan_pool(cell_of_point: Tensor, inside: Tensor, num_cells: int) -> PoolPlan:
    """Sort points by cell: about 1 ms per 100,000 points, so it is made anew for every rig.

    Args:
        cell_of_point: (R, D) int64 flat cells, arbitrary where not inside.
        inside: (R, D) bool.
        num_cells: G.
    """
    cell = torch.where(inside, cell_of_point, num_cells)
    # Half as many bytes are sorted in two thirds of the time.
    narrow = cell.flatten().to(torch.int32 if num_cells < 2**31 - 1 else torch.int64)
    sorted_cells, order = torch.sort(narrow, stable=True)
    offsets = torch.searchsorted(sorted_cells, torch.arange(num_cells + 1, device=cell.device, dtype=narrow.dtype))
    order = order[: int(offsets[-1])]
    return PoolPlan(cell, order, offsets, order // max(cell_of_point.shape[1], 1))


def bev_pool(depth: Tensor, features: Tensor, plan: PoolPlan | PoolTables | PoolRuns) -> Tensor:
    """Pool features into cells.

    Args:
        depth: (R, D) weight of each point (depth distribution of each pixel).
        features: (R, C) feature of each pixel.
        plan: from :func:`plan_pool`; in a graph that is exported tables (see ``pool_tables``) or, with plugins, runs.

    Returns:
        (G, C) in the features' dtype, accumulated in float32 (float64 for float64 inputs).
    """
    if isinstance(plan, PoolRuns):
        return _bev_pool_by_runs(depth, features, plan)
    if takes(features.device) and isinstance(plan, PoolPlan):
        return _bev_pool(depth, features, *plan)  # the kernels widen what they read
    accumulate = torch.float64 if features.dtype == torch.float64 else torch.float32
    depth, rows = depth.to(accumulate), features.to(accumulate)
    pooled = bev_pool_by_tables(depth, rows, plan) if isinstance(plan, PoolTables) else _bev_pool(depth, rows, *plan)
    return pooled.to(features.dtype)


def _bev_pool_by_runs(depth: Tensor, features: Tensor, runs: PoolRuns) -> Tensor:
    """One node of an exported graph, computed here only to try the graph; (F * G, C) for F frames of a shared plan."""
    rows, cells = runs.rows or depth.shape[0], runs.offsets.shape[0] - 1
    if wants_plugins():
        shape = (cells * (depth.shape[0] // rows), features.shape[1])
        inputs = depth, features, runs.order, runs.offsets
        return plugin_node("bev_pool", inputs, {"rows": runs.rows or 0}, shape, features)
    order, offsets = runs.order.long(), runs.offsets.long()
    parts = []
    for weights, part in zip(depth.float().split(rows), features.float().split(rows)):
        shares = weights.reshape(-1)[order]
        pixel = order // depth.shape[1]
        parts.append(
            F.embedding_bag(pixel, part, offsets, mode="sum", per_sample_weights=shares, include_last_offset=True)
        )
    return torch.cat(parts).to(features.dtype)


def _bev_pool_reference(depth: Tensor, features: Tensor, plan: PoolPlan) -> Tensor:
    """The plainest form: build every point's feature, add it to its cell."""
    num_cells = len(plan.offsets) - 1
    volume = depth[:, :, None] * features[:, None]
    pooled = features.new_zeros(num_cells + 1, features.shape[1])
    return pooled.index_add(0, plan.cell_of_point.flatten(), volume.flatten(0, 1))[:num_cells]


@torch.library.custom_op("bev::bev_pool", mutates_args=())
def _bev_pool(
    depth: Tensor, features: Tensor, cell_of_point: Tensor, order: Tensor, offsets: Tensor, pixel: Tensor
) -> Tensor:
    if takes(features.device):
        from bev.ops.triton import bev_pool as kernels

        return kernels.forward(depth, features, order, offsets)
    weights = depth.reshape(-1).index_select(0, order)  # a quarter of the time of advanced indexing
    return F.embedding_bag(
        pixel, features.contiguous(), offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


@_bev_pool.register_fake
def _(
    depth: Tensor, features: Tensor, cell_of_point: Tensor, order: Tensor, offsets: Tensor, pixel: Tensor
) -> Tensor:
    return features.new_empty(offsets.shape[0] - 1, features.shape[1])


@torch.library.custom_op("bev::bev_pool_backward", mutates_args=())
def _bev_pool_backward(grad: Tensor, depth: Tensor, features: Tensor, cell_of_point: Tensor) -> tuple[Tensor, Tensor]:
    if takes(features.device):
        from bev.ops.triton import bev_pool as kernels

        return kernels.backward(grad, depth, features, cell_of_point)
    rows, bins = depth.shape
    # An empty row is what points outside the grid receive; the sampled product below refuses a pattern with more
    # entries than its matrix has, so that a tiny grid is padded to at least D rows.
    table = torch.cat([grad, grad.new_zeros(max(1, bins - len(grad)), grad.shape[1])])
    starts = torch.arange(rows + 1, device=grad.device) * bins
    cells = cell_of_point.reshape(-1)
    grad_features = F.embedding_bag(
        cells, table, starts, mode="sum", per_sample_weights=depth.reshape(-1), include_last_offset=True
    )
    pattern = torch.sparse_csr_tensor(
        starts, cells, depth.new_zeros(len(cells)), (rows, len(table)), check_invariants=False
    )
    sampled = torch.sparse.sampled_addmm(pattern, features.contiguous(), table.t(), beta=0.0)
    return sampled.values().reshape(rows, bins).clone(), grad_features


@_bev_pool_backward.register_fake
def _(grad: Tensor, depth: Tensor, features: Tensor, cell_of_point: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(depth), torch.empty_like(features)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    depth, features, cell_of_point, *_ = inputs
    ctx.save_for_backward(depth, features, cell_of_point)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
    depth, features, cell_of_point = ctx.saved_tensors
    grad_depth, grad_features = _bev_pool_backward(grad.contiguous(), depth, features, cell_of_point)
    return grad_depth, grad_features, None, None, None, None


_bev_pool.register_autograd(_backward, setup_context=_setup_context)
