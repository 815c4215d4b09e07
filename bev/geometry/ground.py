"""Which points are ground: heights followed from the sensor outwards, sector by sector.

After Himmelsbach et al., "Fast segmentation of 3D point clouds for ground vehicles" (IV 2010), with a limit of slope
from ring to ring in place of line fits.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ground_mask(
    xyz_m: Tensor,
    sensor_height_m: float,
    sectors: int = 180,
    ring_m: float = 1.0,
    reach_m: float = 100.0,
    max_slope: float = 0.15,
    clearance_m: float = 0.2,
) -> Tensor:
    """Find ground points.

    Args:
        xyz_m: (P, 3) in the frame of a sensor that stands upright, z up.
        sensor_height_m: of the sensor above the ground below it (1.84 m on nuScenes' cars, 1.73 m on KITTI's).
        sectors, ring_m, reach_m: the polar grid: equal angles, rings of equal width; beyond it nothing is ground.
        max_slope: steepest ground, rise over run.
        clearance_m: points up to this far above the ground of their cell are ground, and so are points that far below,
            which reflections in wet roads make.

    Returns:
        (P,) bool.
    """
    rings = math.ceil(reach_m / ring_m)
    distance_m = xyz_m[:, :2].norm(dim=1)
    azimuth = torch.atan2(xyz_m[:, 1], xyz_m[:, 0]) / (2 * math.pi) + 0.5
    usable = torch.isfinite(xyz_m).all(1) & (distance_m < rings * ring_m)
    ring = torch.where(usable, distance_m / ring_m, 0).long()
    sector = torch.where(usable, azimuth * sectors, 0).long().clamp(0, sectors - 1)
    cell = ring * sectors + sector
    ground = _ground_height(
        xyz_m[:, 2][usable], cell[usable], rings, sectors, sensor_height_m, max_slope * ring_m, clearance_m
    )
    return usable & ((xyz_m[:, 2] - ground[cell]).abs() <= clearance_m)


def _ground_height(
    z_m: Tensor, cell: Tensor, rings: int, sectors: int, sensor_height_m: float, step_m: float, clearance_m: float
) -> Tensor:
    """(rings * sectors,) height of the ground: the lowest point of a cell where it can be ground, else that before.

    The height may change by ``step_m`` for each ring since ground was last seen, and by the clearance for a start.
    """
    lowest = z_m.new_full((rings * sectors,), torch.inf).scatter_reduce(0, cell, z_m, "amin").view(rings, sectors)
    height = z_m.new_full((sectors,), -sensor_height_m)
    gap = torch.ones(sectors, device=z_m.device)
    heights = []
    for row in lowest:
        seen = (row - height).abs() <= clearance_m + step_m * gap
        height = torch.where(seen, row, height)
        gap = torch.where(seen, 1.0, gap + 1)
        heights.append(height)
    return torch.cat(heights)
