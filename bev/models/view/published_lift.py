"""View transforms of the published lift-splat detectors: BEVDet (both generations) and BEVDepth."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.frustum import DepthBins, frustum_points
from bev.models.view.lift_splat import LiftSplatOutput
from bev.models.view.published_geometry import edge_frustum, flat_cells, lift, sensor_matrices, truncated_cells
from bev.ops.bev_pool import PoolPlan, bev_pool, plan_pool
from bev.registry import MODELS
from bev.structures import CameraRig

Compat = Literal["official"]


class DepthAndContext(NamedTuple):
    """``depth_logits`` (B * N, D, H, W) and ``context`` (B * N, C, H, W)."""

    depth_logits: Tensor
    context: Tensor


class PublishedLiftSplat(nn.Module):
    """Depth distribution x context, sum-pooled at the published cells; subclasses know the networks and the names.

    Args:
        out_channels: C of the context.
        depth_bins: D equal intervals.
        grid: cells in the reference frame; Z > 1 levels are stacked into the channels, all channels of a level
            together, as published.
        stride_px: network px per feature pixel.
        image_size_px: (H, W) of the network image that the frustum is made for.
        compat: ``"official"`` places points and cells as the published code does (see ``published_geometry``); None
            sends rays through the feature pixels' centres at the bins' middles and rounds down.

    The pooling plan of the last rig is kept and used again while the calibration stays equal, without gradients only:
    a fixed rig pays for the geometry once.
    """

    def __init__(
        self,
        out_channels: int,
        depth_bins: DepthBins,
        grid: BEVGrid,
        stride_px: int,
        image_size_px: tuple[int, int],
        compat: Compat | None = "official",
    ) -> None:
        super().__init__()
        if compat not in (None, "official"):
            raise ValueError(f"compat is None or 'official', got {compat!r}")
        self.out_channels, self.depth_bins, self.grid = out_channels, depth_bins, grid
        self.stride_px, self.compat = stride_px, compat
        self.image_size_px = (image_size_px[0], image_size_px[1])
        self._kept: tuple[tuple[Tensor, ...], PoolPlan] | None = None

    def depth_and_context(self, features: Tensor, rig: CameraRig) -> DepthAndContext:
        """(B * N, C_in, H, W) features -> depth logits and context."""
        raise NotImplementedError

    def published_frustum(self) -> Tensor:
        """(D, H, W, 3) u, v, depth."""
        return edge_frustum(self.image_size_px, self.stride_px, torch.tensor(self.depth_bins.edges_m[:-1]))

    def forward(self, features: Tensor, rig: CameraRig, measured_m: Tensor | None = None) -> LiftSplatOutput:
        """Lift and pool.

        Args:
            features: (B, N, C_in, H, W) at ``stride_px``.
            rig: with batch axis.
            measured_m: (B, N, H, W) depths to lift with in place of the predicted ones; 0 for not measured.

        Returns:
            grid (B, Z * C, Y, X) and depth logits (B, N, H, W, D).
        """
        batch, cameras = features.shape[:2]
        depth_logits, context = self.depth_and_context(features.flatten(0, 1), rig)
        # In float32 also under autocast: the sum over thousands of points would lose most of bf16's 8 bits.
        depth = depth_logits.float().softmax(1)
        if measured_m is not None:
            told = self.depth_bins.certain_where(measured_m.flatten(0, 1), depth.permute(0, 2, 3, 1))
            depth = told.permute(0, 3, 1, 2)
        bev = self.splat(depth, context.float(), rig)
        return LiftSplatOutput(bev, depth_logits.permute(0, 2, 3, 1).unflatten(0, (batch, cameras)))

    def splat(self, depth: Tensor, context: Tensor, rig: CameraRig) -> Tensor:
        """(B * N, D, H, W) weights and (B * N, C, H, W) features -> (B, Z * C, Y, X)."""
        z_count, y_count, x_count = self.grid.shape
        rows = depth.permute(0, 2, 3, 1).flatten(0, 2), context.permute(0, 2, 3, 1).flatten(0, 2)
        pooled = bev_pool(*rows, self.plan(rig)).view(-1, z_count, y_count, x_count, context.shape[1])
        return pooled.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def plan(self, rig: CameraRig) -> PoolPlan:
        """Which points fall into which cell, of all samples together."""
        key = (rig.cam_from_ref, rig.intrinsics, rig.image_aug)
        if self._kept is not None and all(_same(a, b) for a, b in zip(self._kept[0], key)):
            return self._kept[1]
        index, inside = self.cells(rig)
        batch, cells = len(index), self.grid.shape[0] * self.grid.shape[1] * self.grid.shape[2]
        index = index + torch.arange(batch, device=index.device).view(-1, 1, 1, 1, 1) * cells
        # From (B, N, D, H, W) to one row a pixel.
        rows = [x.permute(0, 1, 3, 4, 2).flatten(0, 3) for x in (index, inside)]
        plan = plan_pool(rows[0], rows[1], batch * cells)
        if not torch.is_grad_enabled():
            self._kept = tuple(x.clone() for x in key), plan
        return plan

    def cells(self, rig: CameraRig) -> tuple[Tensor, Tensor]:
        """(B, N, D, H, W) flat cell of every frustum point, and whether it is inside the grid.

        Raises:
            ValueError: the rig's network size is not the one that the frustum was made for.
        """
        if tuple(rig.image_size_px) != self.image_size_px:
            raise ValueError(f"view transform made for images of {self.image_size_px}, got {rig.image_size_px} px")
        if self.compat is None:
            points = frustum_points(rig, self.depth_bins.centers_m(), self.stride_px)
            return _moved(*self.grid.flat_index(points))
        points = lift(self._frustum(rig.device), sensor_matrices(rig))
        return flat_cells(truncated_cells(points, *self._low_and_cell(points.device)), self.grid)

    def _frustum(self, device: torch.device) -> Tensor:
        """What the checkpoint brought, where its generation stores it."""
        stored = dict(self.named_buffers()).get("frustum")
        return self.published_frustum().to(device) if stored is None else stored[..., :3]

    def _low_and_cell(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Lower corner and cell size; the published float32 way round about the first cell's middle."""
        axes = (self.grid.x_m, self.grid.y_m, self.grid.z_m)
        cell = torch.tensor([axis[2] for axis in axes], device=device)
        middle = torch.tensor([axis[0] + axis[2] / 2.0 for axis in axes], device=device)
        return middle - cell / 2.0, cell


def _same(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.shape == b.shape and torch.equal(a, b)


def _moved(index: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N, H, W, D) -> (B, N, D, H, W)."""
    return index.permute(0, 1, 4, 2, 3), inside.permute(0, 1, 4, 2, 3)


@MODELS.register_module()
class BEVDetView(PublishedLiftSplat):
    """BEVDet's: one 1x1 convolution gives depth and context (arXiv 2112.11790).

    Args:
        in_channels: of the image features.
        generation: whose checkpoints fit: ``"master"`` (``depthnet``; ``dx``, ``bx``, ``nx`` and ``frustum`` are stored
            with the weights) or ``"dev2"`` (``depth_net`` alone).
        others: see :class:`PublishedLiftSplat`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth_bins: DepthBins,
        grid: BEVGrid,
        stride_px: int,
        image_size_px: tuple[int, int],
        compat: Compat | None = "official",
        generation: Literal["master", "dev2"] = "master",
    ) -> None:
        super().__init__(out_channels, depth_bins, grid, stride_px, image_size_px, compat)
        convolution = nn.Conv2d(in_channels, len(depth_bins) + out_channels, 1)
        if generation == "dev2":
            self.depth_net = convolution
            return
        if generation != "master":
            raise ValueError(f"generation is 'master' or 'dev2', got {generation!r}")
        self.depthnet = convolution
        axes = (grid.x_m, grid.y_m, grid.z_m)
        constants = {
            "dx": torch.tensor([axis[2] for axis in axes]),
            "bx": torch.tensor([axis[0] + axis[2] / 2.0 for axis in axes]),
            "nx": torch.tensor([float(count) for count in grid.shape[::-1]]),
            "frustum": self.published_frustum(),
        }
        for name, value in constants.items():
            self.register_buffer(name, value)

    def depth_and_context(self, features: Tensor, rig: CameraRig) -> DepthAndContext:
        """One convolution, split."""
        mixed = (self.depthnet if hasattr(self, "depthnet") else self.depth_net)(features)
        return DepthAndContext(*mixed.split([len(self.depth_bins), self.out_channels], 1))


@MODELS.register_module()
class BEVDepthView(PublishedLiftSplat):
    """BEVDepth's: a depth network that is told of the cameras (arXiv 2206.10092).

    Args:
        depth_net: (features, camera numbers) -> depth logits and context in one map, e.g. ``DepthNet``.
        others: see :class:`PublishedLiftSplat`. ``voxel_size``, ``voxel_coord``, ``voxel_num`` and ``frustum`` are
            stored with the weights, as published.
    """

    def __init__(
        self,
        depth_net: nn.Module,
        out_channels: int,
        depth_bins: DepthBins,
        grid: BEVGrid,
        stride_px: int,
        image_size_px: tuple[int, int],
        compat: Compat | None = "official",
    ) -> None:
        super().__init__(out_channels, depth_bins, grid, stride_px, image_size_px, compat)
        self.depth_net = depth_net
        axes = (grid.x_m, grid.y_m, grid.z_m)
        self.register_buffer("voxel_size", torch.tensor([axis[2] for axis in axes]))
        self.register_buffer("voxel_coord", torch.tensor([axis[0] + axis[2] / 2.0 for axis in axes]))
        self.register_buffer("voxel_num", torch.tensor(grid.shape[::-1]))
        frustum = self.published_frustum()
        self.register_buffer("frustum", torch.cat([frustum, torch.ones_like(frustum[..., :1])], -1))

    def depth_and_context(self, features: Tensor, rig: CameraRig) -> DepthAndContext:
        """The depth network's two parts."""
        mixed = self.depth_net(features, rig)
        return DepthAndContext(*mixed.split([len(self.depth_bins), self.out_channels], 1))
