"""Regular grids seen from above."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BEVGrid:
    """Cells of one size over a box of the reference frame.

    Attributes:
        x_m, y_m, z_m: (low, high, cell size) of each axis; ``z_m`` with one cell is a plain BEV map.

    Raises:
        ValueError: an axis is empty or not a whole number of cells.
    """

    x_m: tuple[float, float, float]
    y_m: tuple[float, float, float]
    z_m: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name, (low, high, cell) in (("x_m", self.x_m), ("y_m", self.y_m), ("z_m", self.z_m)):
            count = (high - low) / cell if cell > 0 else -1
            if count <= 0 or abs(count - round(count)) > 1e-4:
                raise ValueError(f"BEVGrid.{name} = {(low, high, cell)} is not a whole number of cells")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X) number of cells."""
        z, y, x = (round((high - low) / cell) for low, high, cell in (self.z_m, self.y_m, self.x_m))
        return z, y, x

    def flat_index(self, xyz_m: Tensor) -> tuple[Tensor, Tensor]:
        """Cell of each point.

        Args:
            xyz_m: (..., 3) points in the grid's frame.

        Returns:
            index: (...,) int64 ``(z * Y + y) * X + x``; meaningless outside.
            inside: (...,) bool; a point on a lower edge is inside, on the grid's upper edge outside.
        """
        z_count, y_count, x_count = self.shape
        inside = torch.ones((), dtype=torch.bool, device=xyz_m.device)
        index = torch.zeros((), dtype=torch.int64, device=xyz_m.device)
        axes = ((2, self.z_m, z_count), (1, self.y_m, y_count), (0, self.x_m, x_count))
        for axis, (low, _, cell), count in axes:
            position = ((xyz_m[..., axis] - low) / cell).floor_()
            inside = inside & (position >= 0) & (position < count)
            index = index * count + position.long()
        return index, inside

    def centers_m(self, device: torch.device | str = "cpu") -> Tensor:
        """(Y, X, 2) x, y of the cells' centres, m."""
        _, y_count, x_count = self.shape
        x = self.x_m[0] + (torch.arange(x_count, device=device) + 0.5) * self.x_m[2]
        y = self.y_m[0] + (torch.arange(y_count, device=device) + 0.5) * self.y_m[2]
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
