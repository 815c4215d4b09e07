"""A bird's-eye-view map of one moment seen from another (BEVDet4D, arXiv 2203.17054, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.geometry.bev_grid import BEVGrid
from bev.ops.bilinear import bilinear_gather
from bev.ops.exporting import is_exporting


def warp_bev(bev: Tensor, source_from_target: Tensor, grid: BEVGrid, official: bool = True) -> Tensor:
    """Resample a map into another pose of the reference frame; heights are ignored.

    Args:
        bev: (B, C, Y, X) in the source pose.
        source_from_target: (B, 4, 4) m.
        grid: of both maps.
        official: place cell ``i`` at ``low + i * cell`` as BEVDet4D does, half a cell off: a turn then happens about a
            point half a cell beside the origin. False uses the cells' centres.

    Returns:
        (B, C, Y, X) in the target pose, bilinear, zero where the source has nothing.
    """
    _, y_count, x_count = grid.shape
    shift = 0.0 if official else 0.5
    with torch.autocast(bev.device.type, enabled=False):
        wide = torch.float32 if is_exporting() else torch.float64  # TensorRT has no float64
        motion = source_from_target.to(wide)[:, [0, 1, 3]][:, :, [0, 1, 3]]
        (dx, dy), low_x, low_y = (grid.x_m[2], grid.y_m[2]), grid.x_m[0], grid.y_m[0]
        x, y = low_x + shift * dx, low_y + shift * dy
        meters_from_cells = motion.new_tensor([[dx, 0.0, x], [0.0, dy, y], [0.0, 0.0, 1.0]])
        cells_from_meters = motion.new_tensor([[1 / dx, 0.0, -x / dx], [0.0, 1 / dy, -y / dy], [0.0, 0.0, 1.0]])
        cells = (cells_from_meters @ motion @ meters_from_cells).float()
        column = torch.arange(x_count, device=bev.device, dtype=torch.float32).expand(y_count, -1)
        row = torch.arange(y_count, device=bev.device, dtype=torch.float32)[:, None].expand(-1, x_count)
        target = torch.stack([column, row, torch.ones_like(row)], -1).flatten(0, 1)
        source = (target @ cells.transpose(-1, -2))[..., :2]
        if is_exporting():
            return bilinear_gather(bev, source).unflatten(2, (y_count, x_count)).to(bev.dtype)
        scale = source.new_tensor([max(x_count - 1, 1), max(y_count - 1, 1)])
        sampling = (source / scale * 2 - 1).unflatten(1, (y_count, x_count))
        return F.grid_sample(bev.float(), sampling, align_corners=True).to(bev.dtype)
