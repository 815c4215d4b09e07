"""Boxes as centre-cell codes and back (CenterPoint, arXiv 2006.11275)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.mirror import SIDEWAYS, ReferenceFrame
from bev.geometry.rotations import rotation_about_z
from bev.registry import MODELS
from bev.structures import Boxes3D
from bev.structures.boxes3d import Frame
from bev.structures.conventions import CLASSES

CODE_SIZE = 10
# nuScenes' means: length, width, height.
NUSCENES_MEAN_SIZE_M: Mapping[str, Sequence[float]] = {
    "car": (4.62, 1.95, 1.73),
    "truck": (6.93, 2.51, 2.84),
    "construction_vehicle": (6.45, 2.80, 3.16),
    "bus": (11.1, 2.94, 3.45),
    "trailer": (12.3, 2.90, 3.87),
    "barrier": (0.50, 2.51, 0.98),
    "motorcycle": (2.11, 0.77, 1.47),
    "bicycle": (1.70, 0.60, 1.28),
    "pedestrian": (0.73, 0.67, 1.77),
    "traffic_cone": (0.41, 0.41, 1.07),
}


class CellCodes(NamedTuple):
    """Codes that M cells of one frame should hold.

    Attributes:
        cell: (M,) int64 ``y * X + x``, each once.
        code: (M, 10) dx, dy (cells from the cell's lower corner), z m, log l, log w, log h, sin, cos, vx, vy m/s.
        weight: (M, 10) 0 where the ground truth is not known (velocity NaN), else 1.
        box: (M,) int64, which box each cell tells of.
    """

    cell: Tensor
    code: Tensor
    weight: Tensor
    box: Tensor


@MODELS.register_module()
class CenterCoder:
    """Codes of boxes at the cells around their centres.

    Args:
        grid: cells of the head's maps (one level).
        ray_aligned: heading and velocity relative to the cell's direction from the origin, as an image shows them.
        mean_size_m: (length, width, height) of each class. Sizes are then coded as the log ratio to the class's mean
            and z without half its height: what is left to learn is the difference from the ordinary. ``"nuscenes"``:
            the means of that data set.
    """

    def __init__(
        self,
        grid: BEVGrid,
        ray_aligned: bool = False,
        mean_size_m: Mapping[str, Sequence[float]] | Literal["nuscenes"] | None = None,
    ) -> None:
        self.grid, self.ray_aligned = grid, ray_aligned
        if isinstance(mean_size_m, str):
            if mean_size_m != "nuscenes":
                raise ValueError(f"mean_size_m {mean_size_m!r} is unknown; valid: 'nuscenes', or sizes by class")
            mean_size_m = NUSCENES_MEAN_SIZE_M
        if mean_size_m is not None and sorted(mean_size_m) != sorted(CLASSES):
            raise ValueError(f"mean_size_m must hold every class once, got {sorted(mean_size_m)}")
        known = None if mean_size_m is None else torch.tensor([mean_size_m[name] for name in CLASSES])
        # Rows z, log l, log w, log h of every class: what is taken away from the code.
        self.ordinary = None if known is None else torch.cat([known[:, 2:] / 2, known.log()], 1)

    def candidate_settings(self) -> dict[str, Any] | None:
        """What ``ops.candidates.center_candidates`` needs to decode these codes; None where it cannot."""
        if self.ray_aligned or self.ordinary is not None:
            return None
        grid = self.grid
        return {"origin_m": (grid.x_m[0], grid.y_m[0]), "cell_m": (grid.x_m[2], grid.y_m[2]), "frame": "lidar"}

    def center_cells(self, boxes: Boxes3D) -> tuple[Tensor, Tensor]:
        """(M,) int64 cell of each centre (height is ignored), arbitrary where not inside, and (M,) bool inside."""
        center = torch.cat([boxes.center_m[:, :2], torch.full_like(boxes.center_m[:, 2:], self.grid.z_m[0])], -1)
        return self.grid.flat_index(center)

    def count_cells(self, boxes: Boxes3D, radius: int = 0) -> int:
        """Number of cells that :meth:`encode` gives a code, without drawing up the codes."""
        cell, inside = self.center_cells(boxes)
        box = inside.nonzero().squeeze(1)
        around = self._around(cell[box], box, radius)[0]
        return len(around.unique()) if radius else len(around)

    def encode(self, boxes: Boxes3D, radius: int = 0) -> CellCodes:
        """Boxes of the reference frame -> codes of those whose centre is inside the grid.

        Args:
            boxes: with global labels.
            radius: every cell of the square of half side ``radius`` around a centre's cell shall tell of the box;
                where two boxes claim a cell, the nearer centre has it.
        """
        center_cell, inside = self.center_cells(boxes)
        box = inside.nonzero().squeeze(1)
        cell, box = self._around(center_cell[box], box, radius)
        offset = self._offset(boxes.center_m[box], cell)
        if radius:
            cell, box, offset = _nearest(cell, box, offset)
        return self._codes(boxes[box], cell, box, offset)

    def decode(self, cell: Tensor, code: Tensor, label: Tensor, score: Tensor, frame: Frame = "lidar") -> Boxes3D:
        """(M,) cells, (M, 10) codes, labels and scores -> boxes of the reference frame."""
        step = code.new_tensor([self.grid.x_m[2], self.grid.y_m[2]])
        center_xy = (self._corner(cell) + code[:, :2]) * step + code.new_tensor([self.grid.x_m[0], self.grid.y_m[0]])
        turn = self._direction_rad(cell)
        yaw = torch.atan2(code[:, 6], code[:, 7]) + turn
        yaw = torch.remainder(yaw + math.pi, 2 * math.pi) - math.pi
        z, log_size = self._plus_ordinary(code[:, 2:6], label, 1.0).split([1, 3], -1)
        # exp(5) = 148 m: an untrained network must not overflow.
        size = log_size.clamp(max=5.0).exp()
        center = torch.cat([center_xy, z], -1)
        return Boxes3D(center, size, yaw, _rotate(code[:, 8:10], turn), label, score, frame)

    def mirror(self, codes: Tensor, frame: ReferenceFrame) -> Tensor:
        """(B, 10, Y, X) maps of codes -> those of the mirrored world (see bev.geometry.mirror); its own inverse.

        Raises:
            ValueError: the grid is not symmetric to the mirror plane.
        """
        side = SIDEWAYS[frame]
        low, high, _ = (self.grid.x_m, self.grid.y_m)[side]
        if abs(low + high) > 1e-6:
            raise ValueError(f"cannot mirror a grid that reaches from {low} to {high} m to the sides")
        sign = torch.ones(CODE_SIZE)
        sign[side] = -1.0  # the offset, from the cell's other corner: see below
        # Headings and velocities as (along, across): relative to a ray, or to x, the mirror turns what is across; if
        # they are relative to x and x itself points to the side, it turns what is along.
        along = not self.ray_aligned and side == 0
        sign[7 if along else 6] = sign[8 if along else 9] = -1.0
        flipped = codes.flip(3 - side) * sign.to(codes).view(1, -1, 1, 1)
        flipped[:, side] += 1.0
        return flipped

    def _codes(self, boxes: Boxes3D, cell: Tensor, box: Tensor, offset: Tensor) -> CellCodes:
        turn = -self._direction_rad(cell)
        yaw, velocity = boxes.yaw_rad + turn, _rotate(boxes.velocity_mps, turn)
        shape = torch.cat([boxes.center_m[:, 2:], boxes.size_m.log()], -1)
        shape = self._plus_ordinary(shape, boxes.label, -1.0)
        angle = torch.stack([yaw.sin(), yaw.cos()], -1)
        code = torch.cat([offset, shape, angle, velocity.nan_to_num(0.0)], -1)
        weight = torch.cat([torch.ones_like(code[:, :8]), torch.isfinite(velocity).to(code)], -1)
        return CellCodes(cell, code, weight, box)

    def _plus_ordinary(self, shape: Tensor, label: Tensor, sign: float) -> Tensor:
        return shape if self.ordinary is None else shape + sign * self.ordinary.to(shape)[label]

    def _around(self, cell: Tensor, box: Tensor, radius: int) -> tuple[Tensor, Tensor]:
        """The cells within ``radius`` of each cell, without those beyond the grid's border, and their boxes."""
        if radius == 0:
            return cell, box
        _, height, width = self.grid.shape
        shift = torch.arange(-radius, radius + 1, device=cell.device)
        dy, dx = (axis.flatten() for axis in torch.meshgrid(shift, shift, indexing="ij"))
        x, y = (cell % width)[:, None] + dx, (cell // width)[:, None] + dy
        within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return (y * width + x)[within], box[:, None].expand_as(x)[within]

    def _offset(self, center_m: Tensor, cell: Tensor) -> Tensor:
        """(M, 2) from the cells' lower corners to the centres, in cells."""
        low = center_m.new_tensor([self.grid.x_m[0] / self.grid.x_m[2], self.grid.y_m[0] / self.grid.y_m[2]])
        step = center_m.new_tensor([self.grid.x_m[2], self.grid.y_m[2]])
        return center_m[:, :2] / step - low - self._corner(cell)

    def _corner(self, cell: Tensor) -> Tensor:
        return torch.stack([cell % self.grid.shape[2], cell // self.grid.shape[2]], -1)

    def _direction_rad(self, cell: Tensor) -> Tensor:
        if not self.ray_aligned:
            return torch.zeros(cell.shape, device=cell.device)
        x = self.grid.x_m[0] + (cell % self.grid.shape[2] + 0.5) * self.grid.x_m[2]
        y = self.grid.y_m[0] + (cell // self.grid.shape[2] + 0.5) * self.grid.y_m[2]
        return torch.atan2(y, x)


def _nearest(cell: Tensor, box: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each cell once, with the claim whose centre is nearest to the cell's middle."""
    near_first = (offset - 0.5).square().sum(-1).argsort(stable=True)
    by_cell = near_first[cell[near_first].argsort(stable=True)]
    ordered = cell[by_cell]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    chosen = by_cell[first]
    return cell[chosen], box[chosen], offset[chosen]


def _rotate(vector: Tensor, angle_rad: Tensor) -> Tensor:
    """(M, 2) vectors turned counter-clockwise by (M,) angles."""
    return (rotation_about_z(angle_rad)[:, :2, :2].to(vector) @ vector[:, :, None]).squeeze(-1)
