"""Images to bird's-eye view by lifting every pixel along its depth distribution (LSS, arXiv 2008.05711)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.frustum import DepthBins, frustum_points
from bev.geometry.rays import RAY_CHANNELS, pixel_rays
from bev.models.conv_module import ConvModule
from bev.ops.bev_pool import PoolPlan, bev_pool, plan_pool
from bev.ops.pool_tables import PoolTables
from bev.registry import MODELS
from bev.structures import CameraRig

MODELS.register_module(name="LinearDepthBins", module=DepthBins.linear)
MODELS.register_module(name="LogDepthBins", module=DepthBins.log)
MODELS.register_module(module=BEVGrid)

# A cell with less weight than this (of pixels) is taken as nearly empty by the normalised pooling.
_FEW = 0.05


class LiftSplatOutput(NamedTuple):
    """``bev`` (B, C', Y, X) and ``depth_logits`` (B, N, H, W, D)."""

    bev: Tensor
    depth_logits: Tensor


class Splat(nn.Module):
    """Pools what pixels hold, weighted by a depth distribution, into a grid.

    Args:
        depth_bins: D intervals.
        grid: cells in the reference frame; Z > 1 levels are stacked into the channels.
        stride_px: network pixels per feature pixel.
        ray_channels: whether :meth:`with_rays` appends each cell's direction (cos, sin) and range / 50 m as seen from
            the origin. A convolution over the grid does not know where it is, yet an image shows headings relative to
            the viewing ray.
        normalize: pool the weighted mean instead of the sum, and append the log of the weight. A near cell gathers
            hundreds of pixels, a far one a few: sums differ by two orders of magnitude.
    """

    depth_m: Tensor
    rays: Tensor | None

    def __init__(
        self, depth_bins: DepthBins, grid: BEVGrid, stride_px: int, ray_channels: bool = False, normalize: bool = False
    ) -> None:
        super().__init__()
        self.grid, self.depth_bins, self.stride_px, self.normalize = grid, depth_bins, stride_px, normalize
        self.register_buffer("depth_m", depth_bins.centers_m(), persistent=False)
        self.register_buffer("rays", _ray_channels(grid) if ray_channels else None, persistent=False)

    @property
    def added_channels(self) -> int:
        """Channels of the grid beside the pooled ones."""
        return int(self.normalize) + (0 if self.rays is None else self.rays.shape[1])

    def with_rays(self, bev: Tensor) -> Tensor:
        """(B, C, Y, X) -> the same with the directions, where they are asked for."""
        return bev if self.rays is None else torch.cat([bev, self.rays.to(bev).expand(bev.shape[0], -1, -1, -1)], 1)

    def splat(self, depth: Tensor, context: Tensor, rig: CameraRig) -> Tensor:
        """(B, N, H, W, D) weights and (B, N, H, W, C) features -> (B, C * Z, Y, X)."""
        batch, (z_count, y_count, x_count) = depth.shape[0], self.grid.shape
        rows = context.flatten(0, 3)
        if self.normalize:
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
        pooled = bev_pool(depth.flatten(0, 3), rows, self.plan(rig))
        if self.normalize:
            weight = pooled[:, -1:] + _FEW
            pooled = torch.cat([pooled[:, :-1] * weight.reciprocal(), weight.log()], 1)
        grid = pooled.view(batch, z_count, y_count, x_count, -1)
        return grid.permute(0, 4, 1, 2, 3).flatten(1, 2)

    def plan(self, rig: CameraRig) -> PoolPlan | PoolTables:
        """Which points fall into which cell, of all samples together."""
        cell, inside = self.grid.flat_index(frustum_points(rig, self.depth_m, self.stride_px))
        cells_per_sample = self.grid.shape[0] * self.grid.shape[1] * self.grid.shape[2]
        shift = torch.arange(len(cell), device=cell.device).view(-1, 1, 1, 1, 1) * cells_per_sample
        return plan_pool((cell + shift).flatten(0, 3), inside.flatten(0, 3), len(cell) * cells_per_sample)


@MODELS.register_module()
class LiftSplat(Splat):
    """Depth distribution x context of every pixel, sum-pooled into a grid.

    Args:
        in_channels: of the image features.
        out_channels: C of the pooled features.
        depth_bins, grid, stride_px, ray_channels, normalize: as of :class:`Splat`.
        hidden_channels: a 3x3 convolution of that width before the 1x1 depth and context layer; None for none.
        calibration_channels: give every pixel what calibration says of it (see ``pixel_rays``) before ``hidden``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth_bins: DepthBins,
        grid: BEVGrid,
        stride_px: int,
        hidden_channels: int | None = None,
        calibration_channels: bool = False,
        ray_channels: bool = False,
        normalize: bool = False,
    ) -> None:
        super().__init__(depth_bins, grid, stride_px, ray_channels, normalize)
        self.calibration_channels = calibration_channels
        in_channels += RAY_CHANNELS if calibration_channels else 0
        self.hidden = ConvModule(in_channels, hidden_channels) if hidden_channels else nn.Identity()
        self.depthnet = nn.Conv2d(hidden_channels or in_channels, len(depth_bins) + out_channels, 1)

    def forward(self, features: Tensor, rig: CameraRig, measured_m: Tensor | None = None) -> LiftSplatOutput:
        """Lift and pool.

        Args:
            features: (B, N, C_in, H, W) of the images, at ``stride_px``.
            rig: with batch axis.
            measured_m: (B, N, H, W) depths to lift with in place of the predicted distribution; where they are in no
                bin (0 for not measured) the prediction stays.

        Returns:
            grid (B, C * Z [+ 1] [+ 3], Y, X) and the predicted depth logits.
        """
        batch, cameras = features.shape[:2]
        features = features.flatten(0, 1)
        if self.calibration_channels:
            features = torch.cat([features, pixel_rays(rig, self.stride_px).flatten(0, 1).to(features)], 1)
            features = features.contiguous(memory_format=torch.channels_last)
        mixed = self.depthnet(self.hidden(features)).permute(0, 2, 3, 1)
        depth_logits, context = mixed.split([len(self.depth_bins), mixed.shape[-1] - len(self.depth_bins)], dim=-1)
        # In float32 also under autocast: the sum over thousands of points would lose most of bf16's 8 bits.
        depth = depth_logits.float().softmax(-1)
        if measured_m is not None:
            depth = self.depth_bins.certain_where(measured_m.flatten(0, 1), depth)
        bev = self.splat(depth.unflatten(0, (batch, cameras)), context.float().unflatten(0, (batch, cameras)), rig)
        bev = self.with_rays(bev).contiguous(memory_format=torch.channels_last)
        return LiftSplatOutput(bev, depth_logits.unflatten(0, (batch, cameras)))


class Lifted(NamedTuple):
    """``queries`` (B, Y * X, C), row-major, and the ``cells`` (B, C', Y', X') that they were made of."""

    queries: Tensor
    cells: Tensor


@MODELS.register_module()
class LiftedQueries(Splat):
    """What the queries of a grid begin with: image features lifted with a depth distribution that is known already.

    Forward projection before BEVFormer's backward projection, as FB-BEV (arXiv 2308.02236) has it.

    Args:
        in_channels: of the image features.
        hidden_channels: of the pooled features.
        embed_dim: C of the queries.
        depth_bins, grid, stride_px: as of :class:`Splat`; a grid of one level.
        fold: the grid's cells along each side of a query's: finer ones, so that a query knows where in its own cell
            something stands.

    Attributes:
        shape: (Y, X) of the queries.
        cell_channels: C' of the cells.

    Raises:
        ValueError: the grid has several levels, or no whole number of queries.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        embed_dim: int,
        depth_bins: DepthBins,
        grid: BEVGrid,
        stride_px: int,
        fold: int = 1,
    ) -> None:
        super().__init__(depth_bins, grid, stride_px, ray_channels=True, normalize=True)
        if grid.shape[0] != 1:
            raise ValueError(f"LiftedQueries: the grid must have one level, got {grid.shape[0]}")
        if fold < 1 or grid.shape[1] % fold or grid.shape[2] % fold:
            raise ValueError(f"LiftedQueries: {fold} x {fold} cells a query do not divide a grid of {grid.shape[1:]}")
        self.shape = grid.shape[1] // fold, grid.shape[2] // fold
        self.context = ConvModule(in_channels, hidden_channels)
        self.cell_channels = hidden_channels + self.added_channels
        self.mix = ConvModule(self.cell_channels, embed_dim, max(3, 2 * fold - 1), stride=fold)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, features: Tensor, depth: Tensor, rig: CameraRig) -> Lifted:
        """(B, N, C_in, H, W) features and (B, N, H, W, D) depth distribution -> queries and cells."""
        context = self.context(features.flatten(0, 1)).permute(0, 2, 3, 1).float()
        pooled = self.splat(depth.float(), context.unflatten(0, features.shape[:2]), rig)
        cells = self.with_rays(pooled).contiguous(memory_format=torch.channels_last)
        return Lifted(self.norm(self.mix(cells).flatten(2).transpose(1, 2)), cells)


def _ray_channels(grid: BEVGrid) -> Tensor:
    """(1, 3, Y, X) cos and sin of the cells' direction from the origin, and range / 50 m."""
    x, y = grid.centers_m().unbind(-1)
    range_m = torch.hypot(x, y)
    return torch.stack([x / range_m.clamp(min=1e-3), y / range_m.clamp(min=1e-3), range_m / 50.0])[None]
