"""Points in the colours that the cameras see them in."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.geometry.projection import in_image, project
from bev.structures import CameraRig


def colour_points(
    xyz_m: Tensor, rig: CameraRig, images: Tensor, cell_px: int = 8, gap: float = 0.05
) -> tuple[Tensor, Tensor]:
    """Look up each point's colour.

    A point that several cameras see takes its colour from the one whose middle column it is nearest to. A LiDAR sits
    higher than the cameras and sees over what hides a point from them: a point behind another one that falls into the
    same cell of pixels is left without a colour.

    Args:
        xyz_m: (P, 3) in the rig's reference frame.
        rig: without batch axis.
        images: (N, 3, H, W) network images.
        cell_px: side of the cells in which nearer points hide farther ones; 0: nothing is hidden.
        gap: how much farther, as a part of the depth, a point must be to be hidden.

    Returns:
        rgb: (P, 3) of the images' type; 0 where no camera sees the point.
        seen: (P,) bool.

    Raises:
        ValueError: images of another number or size than the rig's.
    """
    height, width = rig.image_size_px
    if tuple(images.shape) != (rig.num_cameras, 3, height, width):
        raise ValueError(f"images of shape {tuple(images.shape)}, expected {(rig.num_cameras, 3, height, width)}")
    pixels_px, depth_m = project(xyz_m, rig.img_from_ref)
    seen = in_image(pixels_px, depth_m, rig.image_size_px)
    if cell_px:
        seen = seen & ~_hidden(pixels_px, depth_m, seen, rig.image_size_px, cell_px, gap)
    off_centre = torch.where(seen, (pixels_px[..., 0] - width / 2).abs(), torch.inf)
    camera = off_centre.argmin(0)
    point = torch.arange(len(xyz_m), device=xyz_m.device)
    found = seen[camera, point]
    # Meaningless pixels of points behind every camera must not overflow the integers below.
    column, row = torch.where(found[:, None], pixels_px[camera, point], 0).long().unbind(-1)
    rgb = images[camera, :, row, column]
    return torch.where(found[:, None], rgb, torch.zeros_like(rgb)), found


def _hidden(
    pixels_px: Tensor, depth_m: Tensor, seen: Tensor, size_px: tuple[int, int], cell_px: int, gap: float
) -> Tensor:
    """(N, P) bool: a nearer point is in the same cell of pixels."""
    rows, columns = (-(-size // cell_px) for size in size_px)
    column, row = (torch.where(seen[..., None], pixels_px, 0) / cell_px).long().unbind(-1)
    camera = torch.arange(len(depth_m), device=depth_m.device)[:, None]
    cell = (camera * rows + row) * columns + column
    nearest = depth_m.new_full((len(depth_m) * rows * columns,), torch.inf)
    nearest = nearest.scatter_reduce(0, cell[seen], depth_m[seen], "amin")
    return seen & (depth_m > nearest[cell] * (1 + gap))
