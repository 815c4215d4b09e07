"""A spinning LiDAR's points as a picture: rows are lasers, columns are directions (RangeNet++, IROS 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def range_image(xyz_m: Tensor, row: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Nearest point in every pixel.

    Args:
        xyz_m: (P, 3) in the sensor's frame.
        row: (P,) integers, 0 on top: ``height - 1 - ring`` of a sensor that counts from below, or `elevation_row`.
        height, width: H, W. Column 0 starts straight behind (-x) and columns go clockwise seen from above, so that the
            middle of the picture looks along +x and its right is the sensor's right.

    Returns:
        range_m: (H, W) distance; 0 where no point is.
        index: (H, W) int64 of the point, -1 where none is: ``field[index]`` is the picture of any field.

    Raises:
        ValueError: a row outside of [0, H).
    """
    if len(row) and not (0 <= int(row.min()) and int(row.max()) < height):
        raise ValueError(f"rows from {int(row.min())} to {int(row.max())} do not fit into {height}")
    distance_m = xyz_m.norm(dim=1)
    turn = (math.pi - torch.atan2(xyz_m[:, 1], xyz_m[:, 0])) / (2 * math.pi)
    column = (turn * width).long().clamp(0, width - 1)
    pixel = row.long() * width + column
    usable = torch.isfinite(distance_m) & (distance_m > 0)
    pixel, distance_m, number = pixel[usable], distance_m[usable], torch.arange(len(row), device=row.device)[usable]
    nearest = distance_m.new_full((height * width,), torch.inf).scatter_reduce(0, pixel, distance_m, "amin")
    wins = distance_m == nearest[pixel]
    # Of equal points the first, whatever the order in which a device writes.
    first = torch.full((height * width,), len(row), device=row.device)
    first = first.scatter_reduce(0, pixel[wins], number[wins], "amin")
    index = torch.where(first < len(row), first, -1)
    return torch.where(nearest.isinf(), 0, nearest).view(height, width), index.view(height, width)


def elevation_row(xyz_m: Tensor, height: int, lowest_rad: float, highest_rad: float) -> Tensor:
    """(P, 3) -> (P,) int64 row of equal steps of elevation, 0 on top; points beyond the limits take the border rows."""
    elevation = torch.atan2(xyz_m[:, 2], xyz_m[:, :2].norm(dim=1))
    position = (highest_rad - elevation) / (highest_rad - lowest_rad) * height
    return position.long().clamp(0, height - 1)
