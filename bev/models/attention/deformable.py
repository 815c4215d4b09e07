"""What the deformable attentions of BEVFormer share: offsets and weights from a query, and their published start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bev.ops.deformable_attention import multi_scale_deformable_attention
from bev.ops.folded_deformable_attention import folded_deformable_attention, folds

Shapes = Sequence[tuple[int, int]]  # (h, w) of every level


class Samples(NamedTuple):
    """Where a query looks and how much it cares.

    Attributes:
        offset: (B, Q, heads, L, P, 2) x, y from the reference point, in shares of each level's map, float32.
        weight: (B, Q, heads, L, P), float32; sums to 1 over L and P.
    """

    offset: Tensor
    weight: Tensor


class RawSamples(NamedTuple):
    """The same before softmax and scaling, as the linear layers give it.

    Attributes:
        offset: (B, Q, heads, L, P, 2) x, y from the reference point in cells of each level.
        logit: (B, Q, heads, L, P).
    """

    offset: Tensor
    logit: Tensor


class DeformableSampling(nn.Module):
    """Offsets, weights and values with the published parameter names (Deformable DETR, arXiv 2010.04159).

    Args:
        embed_dim: of values and output.
        num_heads, num_levels, num_points: samples a query has of each map: heads * points.
        query_dim: of what offsets and weights are computed from; default ``embed_dim``.
        sets: independent sets of samples that one query has (BEVFormer's two frames).
        output_proj: whether there is an output projection here.

    Raises:
        ValueError: heads do not divide the channels.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        query_dim: int | None = None,
        sets: int = 1,
        output_proj: bool = True,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide {embed_dim} channels")
        self.sets, self.num_heads, self.num_levels, self.num_points = sets, num_heads, num_levels, num_points
        samples = sets * num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(query_dim or embed_dim, 2 * samples)
        self.attention_weights = nn.Linear(query_dim or embed_dim, samples)
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        if output_proj:
            self.output_proj = nn.Linear(embed_dim, embed_dim)
        self.initialise()

    def initialise(self) -> None:
        """The published start: every head looks its own way, point p at p + 1 cells; equal weights."""
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        way = torch.stack([angle.cos(), angle.sin()], -1)
        way = way / way.abs().amax(-1, keepdim=True)
        step = torch.arange(1, self.num_points + 1)[:, None]
        bias = (way[:, None, None] * step).expand(-1, self.sets * self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.flatten())
        for weight in (self.sampling_offsets.weight, self.attention_weights.weight, self.attention_weights.bias):
            nn.init.zeros_(weight)
        for projection in (self.value_proj, getattr(self, "output_proj", None)):
            if projection is not None:
                nn.init.xavier_uniform_(projection.weight)
                nn.init.zeros_(projection.bias)

    def raw(self, query: Tensor, shapes: Shapes) -> list[RawSamples]:
        """(B, Q, query_dim) -> offsets and logits of each set, views of the linear layers' outputs.

        Raises:
            ValueError: the number of levels is not the learned one.
        """
        if len(shapes) != self.num_levels:
            raise ValueError(f"this attention is learned for {self.num_levels} levels, got {len(shapes)}")
        layout = (self.num_heads, self.sets, self.num_levels, self.num_points)
        offset = self.sampling_offsets(query).unflatten(-1, (*layout, 2))
        logit = self.attention_weights(query).unflatten(-1, layout)
        return [RawSamples(*pair) for pair in zip(offset.unbind(3), logit.unbind(3))]

    def samples(self, query: Tensor, shapes: Shapes) -> list[Samples]:
        """(B, Q, query_dim) -> samples of each set; raises as :meth:`raw`."""
        return [self.finished(raw, shapes) for raw in self.raw(query, shapes)]

    @staticmethod
    def finished(raw: RawSamples, shapes: Shapes) -> Samples:
        """Raw samples -> shares of the maps, and weights."""
        offset, logit = raw.offset.float(), raw.logit.float()
        size = offset.new_tensor([[w, h] for h, w in shapes])[:, None]
        return Samples(offset / size, logit.flatten(-2).softmax(-1).unflatten(-1, logit.shape[-2:]))

    def attend(self, value: Tensor, shapes: Shapes, points: Tensor, raw: RawSamples) -> Tensor:
        """Read maps around one reference point a query; softmax and scaling inside the operator where that pays.

        Args:
            value: (B, S, heads, channels a head).
            points: (B, Q, 2) x, y as shares of the map.

        Returns:
            (B, Q, C).
        """
        if folds(value.device):
            reference = points[:, :, None, None].float()
            return folded_deformable_attention(value, shapes, reference, raw.offset, raw.logit)
        offset, weight = self.finished(raw, shapes)
        return multi_scale_deformable_attention(value, shapes, points[:, :, None, None, None] + offset, weight)

    def values(self, features: Tensor) -> Tensor:
        """(..., S, embed_dim) -> (..., S, heads, channels a head)."""
        return self.value_proj(features).unflatten(-1, (self.num_heads, -1))
