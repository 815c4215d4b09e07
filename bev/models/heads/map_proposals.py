"""Queries that begin where a bird's-eye-view map already shows objects, and the dense losses that make it show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.attention.ray_cross_attention import PointEncoding
from bev.models.coders import MetricRange
from bev.models.heads.center_head import CenterHead
from bev.models.heads.detr3d_transformer import SeededQueries
from bev.registry import MODELS
from bev.structures import Boxes3D

_COUNTS = ("boxes", "cells")


class Proposed(NamedTuple):
    """Queries, and the maps of the ``CenterHead`` they come from."""

    queries: SeededQueries
    maps: list[dict[str, Tensor]]


@MODELS.register_module()
class FineMap(nn.Module):
    """A map in finer cells: what each cell knows, spread over its parts, beside what was lifted into those.

    A map of 50 x 50 queries is what attention can afford; a box's place to a fraction of a metre takes smaller cells.

    Args:
        embed_dim: C of the map.
        cell_channels: C' of the lifted cells.
        factor: of them along each side of the map's.
        encoder: of both together, (B, ``spread_channels`` + C', f Y, f X) -> (B, ``out_channels``, f Y, f X).
        spread_channels: of a part.
        out_channels: of the encoder.
    """

    def __init__(
        self,
        embed_dim: int,
        cell_channels: int,
        factor: int,
        encoder: nn.Module,
        spread_channels: int,
        out_channels: int,
    ) -> None:
        super().__init__()
        self.factor, self.out_channels = factor, out_channels
        self.spread = nn.Conv2d(embed_dim, spread_channels * factor**2, 1)
        self.encoder = encoder

    def forward(self, bev: Tensor, cells: Tensor) -> Tensor:
        """(B, C, Y, X) map and (B, C', f Y, f X) lifted cells -> (B, ``out_channels``, f Y, f X)."""
        spread = F.pixel_shuffle(self.spread(bev), self.factor)
        fine = torch.cat([spread, cells.to(spread)], 1).contiguous(memory_format=torch.channels_last)
        found: Tensor = self.encoder(fine)
        return found


@MODELS.register_module()
class MapProposals(nn.Module):
    """A ``CenterHead`` of one task on the map; its highest peaks begin queries, as in TransFusion (arXiv 2203.11496).

    A query's content is the map's feature at the peak, the peak's class and its score; it starts at the centre of the
    peak's box. Set prediction matches each object with one query alone, so that few cells of the map hear of it; the
    dense losses tell them all.

    Args:
        head: heatmaps and codes of the cells; all classes in one task.
        embed_dim: C of the map and of the queries.
        count: S, peaks that begin a query.
        fine: the map in finer cells, which the head then reads. None: the head reads the map.

    Raises:
        ValueError: the head has more than one task.
    """

    def __init__(self, head: CenterHead, embed_dim: int, count: int, fine: FineMap | None = None) -> None:
        super().__init__()
        if len(head.task_labels) != 1:
            raise ValueError(f"proposals need a CenterHead of one task, got {len(head.task_labels)}")
        self.head, self.count, (self.labels,) = head, count, head.task_labels
        self.fine, self.factor = fine, 1 if fine is None else fine.factor
        channels = embed_dim if fine is None else fine.out_channels
        self.content = nn.Linear(channels + len(self.labels) + 1, embed_dim)
        self.position = PointEncoding(embed_dim)

    def forward(self, bev: Tensor, position_range: MetricRange, cells: Tensor | None = None) -> Proposed:
        """Queries whose references are shares of ``position_range``.

        Args:
            bev: (B, C, Y, X) map.
            position_range: of the references.
            cells: (B, C', f Y, f X) what was lifted, for ``fine``.

        Raises:
            ValueError: ``fine`` without cells.
        """
        if self.fine is not None:
            if cells is None:
                raise ValueError("a finer map needs lifted cells")
            bev = self.fine(bev, cells)
        maps = self.head(bev)
        score, index = self._peaks(maps[0]["heatmap"].detach())
        size = bev.shape[2] * bev.shape[3]
        channel, cell = index // size, index % size
        feature = bev.flatten(2).transpose(1, 2).gather(1, cell.unsqueeze(-1).expand(-1, -1, bev.shape[1]))
        kind = F.one_hot(channel, len(self.labels)).to(feature.dtype)
        content = self.content(torch.cat([feature, kind, score.unsqueeze(-1).to(feature.dtype)], -1))
        point_m = self._centers_m(maps[0], cell, channel)
        reference = position_range.from_metric(point_m).clamp(0, 1)
        return Proposed(SeededQueries(content, self.position(point_m), reference), maps)

    def _peaks(self, heatmap: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, Y, X) logits -> scores and flat places (class, row, column) of the highest local maxima, (B, S)."""
        heat = heatmap.float().sigmoid()
        # What is no maximum comes after all that are, in its own order: equal scores would be chosen by chance.
        peaks = torch.where(F.max_pool2d(heat, 3, 1, 1) == heat, heat, heat - 1).flatten(1)
        index = peaks.topk(min(self.count, peaks.shape[1])).indices
        return heat.flatten(1).gather(1, index), index

    def _centers_m(self, maps: Mapping[str, Tensor], cell: Tensor, channel: Tensor) -> Tensor:
        """(B, S, 3) centres of the boxes that the cells tell of; without gradient."""
        codes = torch.cat([maps[name] for name in self.head.branches], 1).detach().flatten(2).transpose(1, 2)
        codes = codes.gather(1, cell.unsqueeze(-1).expand(-1, -1, codes.shape[-1])).float()
        label = torch.tensor(self.labels, device=cell.device)[channel]
        score = codes.new_zeros(label.numel())
        boxes = self.head.coder.decode(cell.flatten(), codes.flatten(0, 1), label.flatten(), score)
        return boxes.center_m.unflatten(0, cell.shape)

    def target_counts(self, boxes: Sequence[Boxes3D]) -> dict[str, Tensor]:
        """What :meth:`loss` divides by, ``map.boxes`` and ``map.cells``."""
        counts = self.head.target_counts(boxes)
        return {f"map.{name}": counts[f"{name}_0"] for name in _COUNTS}

    def loss(
        self, maps: Sequence[Mapping[str, Tensor]], boxes: Sequence[Boxes3D], avg_factors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """``map.loss_heatmap`` and ``map.loss_bbox``, scalars."""
        factors = {f"{name}_0": avg_factors[f"map.{name}"] for name in _COUNTS}
        losses = self.head.loss(maps, boxes, factors)
        return {name.replace("task0.", "map."): loss for name, loss in losses.items()}
