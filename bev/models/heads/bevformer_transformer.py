"""BEVFormer's transformer: camera features and the previous map to a map, and the map to object queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bev.models.attention.spatial_cross_attention import CameraTokens, flatten_levels
from bev.models.attention.temporal_self_attention import Compat
from bev.models.heads.bevformer_encoder import BEVFormerEncoder
from bev.models.heads.detr3d_transformer import Detr3DTransformer
from bev.models.view.ego_motion import CAN_BUS, planar_motion, rotate_map
from bev.registry import MODELS
from bev.structures import CameraRig
from bev.structures.boxes3d import Frame

# Rotation centre of every published configuration: right for 200 x 200 cells only.
_PUBLISHED_CENTER = (100.0, 100.0)


class MapInputs(NamedTuple):
    """What the encoder starts from; intermediate results that the published code can be compared at.

    Attributes:
        query: (B, Y * X, C) learned grid plus the encoded ego motion.
        previous: (B, Y * X, C) the previous map, rotated; None without one.
        shift: (B, 2) x, y displacement as shares of the grid.
    """

    query: Tensor
    previous: Tensor | None
    shift: Tensor


@MODELS.register_module()
class PerceptionTransformer(Detr3DTransformer):
    """BEVFormer (Li et al., ECCV 2022) with the published parameter names.

    Args:
        embed_dim: C.
        encoder: grid of queries.
        layers, refinement: of the decoder, as in ``Detr3DTransformer``.
        num_cameras: whose order the learned camera embeddings belong to.
        num_feature_levels: rows of the level embeddings (published: 4, whatever is used).
        frame: reference frame, which tells where the vehicle's front is.
        use_motion_vector: add the encoded 18 numbers of ego motion to the grid.
        rotate_center: x, y in cells that the previous map is turned about; None for the reference frame's origin.
        compat: ``"official"`` turns about (100, 100) where ``rotate_center`` is None, as every published model does.
    """

    def __init__(
        self,
        embed_dim: int,
        encoder: BEVFormerEncoder,
        layers: Sequence[nn.Module],
        refinement: nn.Module,
        num_cameras: int = 6,
        num_feature_levels: int = 4,
        frame: Frame = "lidar",
        use_motion_vector: bool = True,
        rotate_center: Sequence[float] | None = None,
        compat: Compat = "fixed",
    ) -> None:
        super().__init__(embed_dim, layers, refinement)
        self.encoder, self.frame, self.use_motion_vector = encoder, frame, use_motion_vector
        self.span_m, self.origin_cells = _span_and_origin(encoder.range_m, encoder.bev_shape)
        default = _PUBLISHED_CENTER if compat == "official" else self.origin_cells
        self.rotate_center = default if rotate_center is None else (float(rotate_center[0]), float(rotate_center[1]))
        self.level_embeds = nn.Parameter(torch.empty(num_feature_levels, embed_dim))
        self.cams_embeds = nn.Parameter(torch.empty(num_cameras, embed_dim))
        self.can_bus_mlp = nn.Sequential(
            nn.Linear(CAN_BUS, embed_dim // 2),
            nn.ReLU(inplace=True),
            nn.Linear(embed_dim // 2, embed_dim),
            nn.ReLU(inplace=True),
        )
        self.can_bus_mlp.add_module("norm", nn.LayerNorm(embed_dim))
        self.can_bus_mlp.requires_grad_(use_motion_vector)  # several processes wait for gradients of all that has one
        self._initialise()  # once more, now that the encoder is here
        nn.init.normal_(self.level_embeds)
        nn.init.normal_(self.cams_embeds)
        for linear in self.can_bus_mlp:
            if isinstance(linear, nn.Linear):
                nn.init.zeros_(linear.bias)

    def embed(self, features: Sequence[Tensor]) -> CameraTokens:
        """Levels (B, N, C, h, w) -> tokens that know their camera and level.

        Raises:
            ValueError: the number of cameras is not the learned one, or there are more levels than embeddings.
        """
        cameras, levels = features[0].shape[1], len(features)
        if cameras != len(self.cams_embeds) or levels > len(self.level_embeds):
            raise ValueError(
                f"this transformer is learned for {len(self.cams_embeds)} cameras and at most "
                f"{len(self.level_embeds)} levels, got {cameras} and {levels}"
            )
        place = self.cams_embeds[:, None] + self.level_embeds[None, :levels]
        known = [level + place[:, index, :, None, None].to(level.dtype) for index, level in enumerate(features)]
        return flatten_levels(known)

    def prepare(self, grid: Tensor, can_bus: Tensor, previous: Tensor | None) -> MapInputs:
        """(Y * X, C) or (B, Y * X, C) grid, (B, 18) motion and (B, Y * X, C) previous map -> the encoder's inputs."""
        query = grid.expand(can_bus.shape[0], -1, -1)
        if self.use_motion_vector:
            query = query + self.can_bus_mlp(can_bus.to(grid.dtype)).unsqueeze(1)
        moved_m, turned_deg = planar_motion(can_bus, self.frame)
        if previous is not None:
            shape = self.encoder.bev_shape
            previous = rotate_map(previous.unflatten(1, shape), turned_deg, self.rotate_center).flatten(1, 2)
        return MapInputs(query, previous, (moved_m / moved_m.new_tensor(self.span_m)).to(grid.dtype))

    def encode(
        self,
        features: Sequence[Tensor],
        rig: CameraRig,
        grid: Tensor,
        grid_pos: Tensor,
        can_bus: Tensor,
        previous: Tensor | None,
        continues: Tensor,
    ) -> Tensor:
        """Cameras and the previous map -> map.

        Args:
            features: L maps (B, N, C, H_l, W_l).
            rig: calibration with the batch axis.
            grid: (Y * X, C) learned queries, or (B, Y * X, C).
            grid_pos: (Y * X, C) their positions.
            can_bus: (B, 18), see ``ego_motion.can_bus_vector``.
            previous: (B, Y * X, C) map of the previous frame in its own axes, or None.
            continues: (B,) bool, which frames the previous map belongs to.

        Returns:
            (B, Y * X, C), row-major, row 0 at the lowest y.
        """
        query, turned, shift = self.prepare(grid, can_bus, previous)
        grid_pos = grid_pos.expand(query.shape[0], -1, -1)
        return self.encoder(query, grid_pos, self.embed(features), rig, turned, continues, shift)


def _span_and_origin(
    range_m: Sequence[float], bev_shape: tuple[int, int]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """x, y extent in m, and where the reference frame's origin is in cells."""
    span = (range_m[3] - range_m[0], range_m[4] - range_m[1])
    rows, columns = bev_shape
    return span, (-range_m[0] / span[0] * columns, -range_m[1] / span[1] * rows)
