"""The published formulations, restated plainly, and detectors that run on them: what the speed is measured against.

* Lift-splat: the frustum's geometry in every frame, the whole volume of depth times context, sorted by cell, a
  cumulative sum, differences at the cells' ends (LSS, arXiv 2008.05711; BEVDet).
* DETR3D: every camera and level is sampled by ``grid_sample`` for every query, then masked (arXiv 2110.06922).
* BEVFormer: deformable attention as one ``grid_sample`` a level, for the queries that a camera sees
  (arXiv 2203.17270). Its dense form computes all queries in all cameras and masks.
* All of them: maps in torch's default memory layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from bev.models.view.published_lift import PublishedLiftSplat
from bev.ops.camera_sampling import _camera_sampling_reference
from bev.ops.deformable_attention import _attention_reference
from bev.structures import CameraRig

_ATTENTION = "bev.models.attention"


def cumsum_trick(depth: Tensor, features: Tensor, cell: Tensor, cells: int) -> Tensor:
    """(R, D) weights, (R, C) features, (R * D,) cells (``cells``: outside) -> (cells, C), by cumulative sums."""
    volume = (depth[:, :, None] * features[:, None]).flatten(0, 1)
    kept = cell < cells
    order = torch.argsort(cell[kept])
    cell, volume = cell[kept][order], volume[kept][order].cumsum(0)
    last = torch.ones_like(cell, dtype=torch.bool)
    last[:-1] = cell[1:] != cell[:-1]
    sums = volume[last]
    sums = torch.cat([sums[:1], sums[1:] - sums[:-1]])
    return torch.zeros(cells, features.shape[1]).index_put((cell[last],), sums)


def _splat(self: PublishedLiftSplat, depth: Tensor, context: Tensor, rig: CameraRig) -> Tensor:
    """In the place of ``PublishedLiftSplat.splat``: nothing is kept from the frame before."""
    z_count, y_count, x_count = self.grid.shape
    index, inside = self.cells(rig)
    batch, cells = len(index), z_count * y_count * x_count
    index = index + torch.arange(batch).view(-1, 1, 1, 1, 1) * cells
    flat = torch.where(inside, index, batch * cells).permute(0, 1, 3, 4, 2).flatten()
    rows = depth.permute(0, 2, 3, 1).flatten(0, 2), context.permute(0, 2, 3, 1).flatten(0, 2)
    pooled = cumsum_trick(*rows, flat, batch * cells).view(-1, z_count, y_count, x_count, context.shape[1])
    return pooled.permute(0, 1, 4, 2, 3).flatten(1, 2)


def _attention(value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """In the place of ``multi_scale_deformable_attention``."""
    return _attention_reference(value, [h for h, _ in shapes], [w for _, w in shapes], locations, weights)


@contextmanager
def published_forms(dense: bool = False) -> Iterator[None]:
    """Within, detectors compute by the published forms; ``dense``: BEVFormer reads every query in every camera."""
    from bev.models.attention import spatial_cross_attention as spatial

    with ExitStack() as stack:
        for module in ("bev.ops.projected_sampling", f"{_ATTENTION}.ray_cross_attention"):
            stack.enter_context(patch(f"{module}.camera_sampling", _camera_sampling_reference))
        for part in ("spatial_cross_attention", "deformable"):
            stack.enter_context(patch(f"{_ATTENTION}.{part}.multi_scale_deformable_attention", _attention))
        if dense:
            stack.enter_context(patch.object(spatial, "_read_listed", spatial._read_every))
        stack.enter_context(patch.object(PublishedLiftSplat, "splat", _splat))
        yield


@contextmanager
def published_detector(model: Any) -> Iterator[None]:
    """:func:`published_forms`, and maps in the default layout all through this detector."""

    def extract_features(images: Tensor) -> Any:
        levels = model.img_neck(model.img_backbone(model.preprocess(images.flatten(0, 1))))
        if isinstance(levels, Tensor):
            return levels.unflatten(0, images.shape[:2])
        return [level.unflatten(0, images.shape[:2]) for level in levels]

    assert isinstance(model, nn.Module) and "extract_features" not in vars(model)
    with published_forms():
        model.extract_features = extract_features  # type: ignore[assignment]
        try:
            yield
        finally:
            del model.extract_features
