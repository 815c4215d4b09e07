"""BEVFormer's spatial cross-attention: every grid cell reads the cameras that see its pillar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bev.models.attention.deformable import DeformableSampling, RawSamples, Samples, Shapes
from bev.models.attention.temporal_self_attention import Compat
from bev.ops.deformable_attention import multi_scale_deformable_attention
from bev.ops.exporting import is_exporting
from bev.ops.folded_deformable_attention import folded_deformable_attention, folds
from bev.registry import MODELS


class Pillars(NamedTuple):
    """Projections of the D points above every cell.

    Attributes:
        points: (B, N, Q, D, 2) u, v as shares of the network image, float32.
        visible: (B, N, Q, D) bool.
    """

    points: Tensor
    visible: Tensor


class CameraTokens(NamedTuple):
    """Features of all levels: ``values`` (B, N, S, C), row-major levels one after the other; ``shapes`` (h, w)."""

    values: Tensor
    shapes: Shapes


@MODELS.register_module()
class SpatialCrossAttention(nn.Module):
    """Deformable attention on the cameras that see a cell, averaged over them (BEVFormer, section 3.3).

    Only the queries that a camera sees are computed for it. Adds its own residual.

    Args:
        embed_dim, num_heads, num_levels: of the attention.
        num_points: samples a head and level, dealt out to the D points of a pillar in turn.
        dropout: of the output.
        compat: ``"official"`` lets every frame of a batch look where the first one sees something, as the published
            code does; equal to ``"fixed"`` for one frame.
    """

    def __init__(
        self,
        embed_dim: int,
        num_levels: int,
        num_heads: int = 8,
        num_points: int = 8,
        dropout: float = 0.1,
        compat: Compat = "fixed",
    ) -> None:
        super().__init__()
        self.deformable_attention = DeformableSampling(embed_dim, num_heads, num_levels, num_points, output_proj=False)
        self.output_proj = nn.Linear(embed_dim, embed_dim)
        self.dropout, self.official = nn.Dropout(dropout), compat == "official"
        self.initialise()

    def initialise(self) -> None:
        """The published start of the output; the deformable part has its own."""
        nn.init.xavier_uniform_(self.output_proj.weight)
        nn.init.zeros_(self.output_proj.bias)

    def forward(self, query: Tensor, tokens: CameraTokens, pillars: Pillars) -> Tensor:
        """(B, Q, C) queries -> (B, Q, C).

        Raises:
            ValueError: the pillars' number of points does not divide the number of samples.
        """
        depth, points = pillars.points.shape[3], self.deformable_attention.num_points
        if points % depth:
            raise ValueError(f"{points} samples a head and level cannot be dealt out to pillars of {depth} points")
        seen = pillars.visible.any(-1)
        listed = seen[:1].expand_as(seen) if self.official else seen
        values = self.deformable_attention.values(tokens.values).flatten(0, 1)
        (raw,) = self.deformable_attention.raw(query, tokens.shapes)
        # The operator takes raw samples where it folds the rest in; else each query's weights are computed once.
        samples = raw if folds(values.device) else self.deformable_attention.finished(raw, tokens.shapes)
        every = _read_every if is_exporting() else _read_listed
        read = every(values, tokens.shapes, samples, pillars.points, listed)
        count = seen.sum(1).clamp(min=1).unsqueeze(-1)
        return query + self.dropout(self.output_proj((read / count).to(query.dtype)))


def _locations(points: Tensor, offset: Tensor) -> Tensor:
    """(R, Q, D, 2) points and (R, Q, heads, L, P, 2) offsets -> locations; sample p belongs to point p mod D."""
    dealt = offset.unflatten(-2, (-1, points.shape[-2])) + points[:, :, None, None, None]
    return dealt.flatten(-3, -2)


def _read(values: Tensor, shapes: Shapes, samples: Samples | RawSamples, points: Tensor) -> Tensor:
    """(R, S, heads, C / heads) values, samples and (R, Q, D, 2) points of R cameras -> (R, Q, C) float32."""
    if isinstance(samples, RawSamples):
        read = folded_deformable_attention(values, shapes, points[:, :, None].float(), *samples)
    else:
        location = _locations(points, samples.offset)
        read = multi_scale_deformable_attention(values, shapes, location, samples.weight)
    return read.float()


def _read_listed(
    values: Tensor, shapes: Shapes, samples: Samples | RawSamples, points: Tensor, listed: Tensor
) -> Tensor:
    """Sum over cameras, each computed for its listed queries only.

    Args:
        values: (B * N, S, heads, C / heads).
        samples: of every query.
        points: (B, N, Q, D, 2).
        listed: (B, N, Q) bool.

    Returns:
        (B, Q, C) float32.
    """
    batch, cameras, queries = listed.shape
    longest = max(int(listed.sum(-1).max()), 1)
    # Listed queries first, in their order; the tail of a camera that sees fewer is multiplied by 0.
    index = (~listed).to(torch.uint8).argsort(stable=True, dim=-1)[..., :longest]
    kept = listed.gather(-1, index).flatten(0, 1)
    frame = torch.arange(batch, device=index.device)[:, None, None]
    row = (frame * queries + index).flatten(0, 1)
    picked = type(samples)(*(part.flatten(0, 1)[row] for part in samples))
    camera = torch.arange(batch * cameras, device=index.device)[:, None]
    where = points.flatten(0, 1)[camera, index.flatten(0, 1)]
    read = _read(values, shapes, picked, where) * kept.unsqueeze(-1)
    total = read.new_zeros(batch * queries, read.shape[-1]).index_add(0, row.flatten(), read.flatten(0, 1))
    return total.unflatten(0, (batch, queries))


def _read_every(
    values: Tensor, shapes: Shapes, samples: Samples | RawSamples, points: Tensor, listed: Tensor
) -> Tensor:
    """The same with every query in every camera: no shape depends on the calibration, so that it exports."""
    batch, cameras, queries = listed.shape
    repeated = type(samples)(*(part.repeat_interleave(cameras, 0) for part in samples))
    read = _read(values, shapes, repeated, points.flatten(0, 1))
    return (read.unflatten(0, (batch, cameras)) * listed.unsqueeze(-1)).sum(1)


def flatten_levels(features: Sequence[Tensor]) -> CameraTokens:
    """Levels (B, N, C, h, w) -> tokens."""
    values = torch.cat([level.permute(0, 1, 3, 4, 2).flatten(2, 3) for level in features], 2)
    return CameraTokens(values, [(level.shape[-2], level.shape[-1]) for level in features])
