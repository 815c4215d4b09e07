"""BEVFormer's encoder: a grid of queries reads the previous frame's map and the cameras, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.geometry.projection import in_image, project
from bev.models.attention.decoder_layer import FeedForward
from bev.models.attention.spatial_cross_attention import CameraTokens, Pillars, SpatialCrossAttention
from bev.models.attention.temporal_self_attention import History, TemporalSelfAttention
from bev.models.coders import MetricRange
from bev.registry import MODELS
from bev.structures import CameraRig


@MODELS.register_module()
class BEVFormerLayer(nn.Module):
    """Temporal self-attention, spatial cross-attention, feed-forward; a layer norm after each.

    Args:
        embed_dim: C.
        hidden_dim: of the feed-forward.
        temporal, spatial: the attentions.
        dropout: of the feed-forward.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int,
        temporal: TemporalSelfAttention,
        spatial: SpatialCrossAttention,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([temporal, spatial])
        self.ffns = nn.ModuleList([FeedForward(embed_dim, hidden_dim, dropout)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(3))

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        points: Tensor,
        history: History | None,
        shape: tuple[int, int],
        tokens: CameraTokens,
        pillars: Pillars,
    ) -> Tensor:
        """(B, Q, C) -> (B, Q, C); arguments as of the attentions."""
        query = self.norms[0](self.attentions[0](query, query_pos, points, history, shape))
        query = self.norms[1](self.attentions[1](query, tokens, pillars))
        return self.norms[2](self.ffns[0](query))


@MODELS.register_module()
class BEVFormerEncoder(nn.Module):
    """The layers and their geometry (Li et al., BEVFormer, ECCV 2022).

    Args:
        layers: see :class:`BEVFormerLayer`.
        bev_shape: (Y, X) cells.
        range_m: box that the grid covers: x, y, z of two corners.
        points_in_pillar: D heights a cell is projected at.
    """

    pillars_m: Tensor
    cells: Tensor

    def __init__(
        self,
        layers: Sequence[BEVFormerLayer],
        bev_shape: Sequence[int],
        range_m: Sequence[float],
        points_in_pillar: int = 4,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.bev_shape: tuple[int, int] = (int(bev_shape[0]), int(bev_shape[1]))
        metric = MetricRange(range_m)
        self.range_m = metric.range_m
        shares = pillar_points(self.bev_shape, points_in_pillar, metric.range_m[5] - metric.range_m[2])
        # Computed, not learned: published checkpoints carry no such keys.
        self.register_buffer("pillars_m", metric.to_metric(shares), persistent=False)
        self.register_buffer("cells", shares[:, 0, :2].contiguous(), persistent=False)

    def project(self, rig: CameraRig) -> Pillars:
        """Every cell's points in every camera."""
        points_m = self.pillars_m.flatten(0, 1).expand(rig.img_from_ref.shape[0], -1, -1)
        pixels_px, depth_m = project(points_m, rig.img_from_ref)
        visible = in_image(pixels_px, depth_m, rig.image_size_px)
        height, width = rig.image_size_px
        layout = self.pillars_m.shape[:2]
        points = pixels_px / pixels_px.new_tensor([width, height])
        return Pillars(points.unflatten(2, layout), visible.unflatten(2, layout))

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        tokens: CameraTokens,
        rig: CameraRig,
        previous: Tensor | None,
        continues: Tensor,
        shift: Tensor,
    ) -> Tensor:
        """Encode.

        Args:
            query, query_pos: (B, Y * X, C).
            tokens: camera features.
            rig: calibration with the batch axis.
            previous: (B, Y * X, C) the previous map in the present heading, or None.
            continues: (B,) bool, which frames have a previous one.
            shift: (B, 2) x, y of the vehicle's displacement as shares of the grid.

        Returns:
            (B, Y * X, C).
        """
        pillars = self.project(rig)
        history = None if previous is None else History(previous, query, continues)
        moved = shift * continues.unsqueeze(-1) * (previous is not None)
        points = torch.stack([self.cells + moved.unsqueeze(1), self.cells.expand(query.shape[0], -1, -1)], 1)
        for layer in self.layers:
            query = layer(query, query_pos, points, history, self.bev_shape, tokens, pillars)
        return query


def pillar_points(bev_shape: tuple[int, int], count: int, height_m: float) -> Tensor:
    """(Y * X, D, 3) points above the cells' centres as shares of the range, row-major, x fastest.

    Heights go from half a metre above the lower bound to half a metre below the upper one, as published.
    """
    rows, columns = bev_shape
    z = torch.linspace(0.5, height_m - 0.5, count) / height_m
    y = torch.linspace(0.5, rows - 0.5, rows) / rows
    x = torch.linspace(0.5, columns - 0.5, columns) / columns
    y, x, z = torch.meshgrid(y, x, z, indexing="ij")
    return torch.stack([x, y, z], -1).flatten(0, 1)
