"""CenterPoint's box code as BEVDet and BEVDepth publish it (arXiv 2006.11275)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bev.geometry.bev_grid import BEVGrid
from bev.models.coders.center_coder import CellCodes, CenterCoder
from bev.registry import MODELS
from bev.structures import Boxes3D
from bev.structures.boxes3d import Frame
from bev.structures.conventions import BoxConvention, boxes_from_array, boxes_to_array

# exp(80) is finite in float32: an untrained network must not overflow.
_MAX_LOG_SIZE = 80.0


@MODELS.register_module()
class CenterPointCoder(CenterCoder):
    """Codes dx, dy, z, three log sizes, sin, cos, vx, vy at the centre's cell.

    Cells are found by truncation toward zero, after dividing by the voxel and then by the stride, in float32: a centre
    on an edge lands where the published code puts it.

    Args:
        grid: cells of the head's maps (one level).
        out_size_factor: voxels per cell of the published configuration; it only fixes the rounding.
        legacy_box_code: sizes as w, l, h and yaw as -yaw - pi/2 (mmdet3d < 1.0: BEVDet master); else l, w, h and yaw.
        center_range_m: x, y, z low and high; decoded boxes with a centre outside are dropped. None keeps all.
        frame: the reference frame that decoded boxes are in.
    """

    def __init__(
        self,
        grid: BEVGrid,
        out_size_factor: int = 8,
        legacy_box_code: bool = False,
        center_range_m: Sequence[float] | None = None,
        frame: Frame = "lidar",
    ) -> None:
        super().__init__(grid)
        if center_range_m is not None and len(center_range_m) != 6:
            raise ValueError(f"center_range_m is x, y, z low and x, y, z high, got {center_range_m}")
        self.out_size_factor, self.center_range_m, self.frame = out_size_factor, center_range_m, frame
        self.convention: BoxConvention = "mmdet3d_v0" if legacy_box_code else "mmdet3d_v1"

    def in_cells(self, length_m: Tensor) -> Tensor:
        """(M, 2) lengths along x and y -> cells, in the published order of divisions."""
        step = length_m.new_tensor([self.grid.x_m[2], self.grid.y_m[2]])
        voxel = torch.tensor([self.grid.x_m[2], self.grid.y_m[2]], dtype=torch.float64) / self.out_size_factor
        return length_m / voxel.to(step) / self.out_size_factor

    def candidate_settings(self) -> dict[str, Any] | None:
        settings = super().candidate_settings()
        assert settings is not None
        own = {"frame": self.frame, "largest_log": _MAX_LOG_SIZE, "legacy": self.convention == "mmdet3d_v0"}
        return {**settings, **own, "range_m": tuple(self.center_range_m or ())}

    def center_cells(self, boxes: Boxes3D) -> tuple[Tensor, Tensor]:
        """(M,) int64 cell of each centre, and (M,) bool: inside, and of a box with a length and a width."""
        _, height, width = self.grid.shape
        x, y = self._position(boxes.center_m).long().unbind(-1)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (boxes.size_m[:, :2] > 0).all(1)
        return y * width + x, inside

    def decode(self, cell: Tensor, code: Tensor, label: Tensor, score: Tensor, frame: Frame | None = None) -> Boxes3D:
        """(M,) cells, (M, 10) codes, labels and scores -> boxes of the reference frame inside ``center_range_m``."""
        step = code.new_tensor([self.grid.x_m[2], self.grid.y_m[2]])
        center_xy = (self._corner(cell) + code[:, :2]) * step + self._low(code)
        size, yaw = code[:, 3:6].clamp(max=_MAX_LOG_SIZE).exp(), torch.atan2(code[:, 6:7], code[:, 7:8])
        array = torch.cat([center_xy, code[:, 2:3], size, yaw, code[:, 8:10]], -1)
        boxes = boxes_from_array(array, label, self.convention, "center", score, frame or self.frame)
        if self.center_range_m is None:
            return boxes
        low, high = code.new_tensor(self.center_range_m).view(2, 3)
        return boxes[((boxes.center_m >= low) & (boxes.center_m <= high)).all(1)]

    def _codes(self, boxes: Boxes3D, cell: Tensor, box: Tensor, offset: Tensor) -> CellCodes:
        array = boxes_to_array(boxes, self.convention, z="center")
        yaw, velocity = array[:, 6:7], array[:, 7:9]
        parts = [offset, array[:, 2:3], array[:, 3:6].log(), yaw.sin(), yaw.cos(), velocity.nan_to_num(0.0)]
        code = torch.cat(parts, -1)
        weight = torch.cat([torch.ones_like(code[:, :8]), torch.isfinite(velocity).to(code)], -1)
        return CellCodes(cell, code, weight, box)

    def _offset(self, center_m: Tensor, cell: Tensor) -> Tensor:
        return self._position(center_m) - self._corner(cell)

    def _position(self, center_m: Tensor) -> Tensor:
        return self.in_cells(center_m[:, :2] - self._low(center_m))

    def _low(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.grid.x_m[0], self.grid.y_m[0]])
