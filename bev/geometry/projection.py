"""Points to pixels and back."""

from __future__ import annotations

import torch
from torch import Tensor

# Points nearer than this are behind the camera for every method here (value of the published DETR3D / BEVFormer code).
MIN_DEPTH_M = 1e-5


def project(xyz_m: Tensor, img_from_ref: Tensor) -> tuple[Tensor, Tensor]:
    """Project points into every camera.

    Args:
        xyz_m: (*B, P, 3) in the reference frame, m.
        img_from_ref: (*B, N, 4, 4), as ``CameraRig.img_from_ref``.

    Returns:
        pixels_px: (*B, N, P, 2) continuous u, v; meaningless where the depth is not positive, but always finite.
        depth_m: (*B, N, P) along the optical axis.

    Computed in float32 even under autocast: at 50 m a bf16 coordinate is off by up to 20 cm.
    """
    with torch.autocast(xyz_m.device.type, enabled=False):
        xyz_m, img_from_ref = xyz_m.float(), img_from_ref.float()
        # All cameras in one product: (P, 3) x (3, 3 N) is many times faster than N small batched ones.
        rows = img_from_ref[..., :3, :].flatten(-3, -2)
        projected = xyz_m @ rows[..., :3].transpose(-1, -2) + rows[..., None, :, 3]
        projected = projected.unflatten(-1, (-1, 3)).transpose(-2, -3)
        depth_m = projected[..., 2]
        return projected[..., :2] / depth_m.clamp(min=MIN_DEPTH_M).unsqueeze(-1), depth_m


def in_image(pixels_px: Tensor, depth_m: Tensor, image_size_px: tuple[int, int]) -> Tensor:
    """(*B, N, P) True where a projected point is in front of the camera and strictly inside the (H, W) image."""
    height, width = image_size_px
    u, v = pixels_px.unbind(-1)
    return (depth_m > MIN_DEPTH_M) & (u > 0) & (u < width) & (v > 0) & (v < height)


def unproject(pixels_px: Tensor, depth_m: Tensor, ref_from_img: Tensor) -> Tensor:
    """Lift pixels with a depth to points.

    Args:
        pixels_px: (..., 2) network px.
        depth_m: (...,) along the optical axis.
        ref_from_img: (..., 4, 4), broadcastable, as ``CameraRig.ref_from_img``.

    Returns:
        (..., 3) points in the reference frame, m; float32.
    """
    with torch.autocast(pixels_px.device.type, enabled=False):
        pixels_px, depth_m, ref_from_img = pixels_px.float(), depth_m.float(), ref_from_img.float()
        scaled = torch.cat([pixels_px * depth_m.unsqueeze(-1), depth_m.unsqueeze(-1)], -1)
        return (ref_from_img[..., :3, :3] @ scaled.unsqueeze(-1)).squeeze(-1) + ref_from_img[..., :3, 3]
