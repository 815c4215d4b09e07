"""Reflection of a camera rig at the vehicle's vertical middle plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from bev.structures import CameraRig

ReferenceFrame = Literal["lidar", "ego"]

# The horizontal axis that points to the side, in each reference frame.
SIDEWAYS: dict[str, int] = {"lidar": 0, "ego": 1}


def mirror_matrix(frame: ReferenceFrame) -> Tensor:
    """(4, 4) float64 reflection of a reference frame: x -> -x of the LiDAR's, y -> -y of the ego vehicle's."""
    if frame not in SIDEWAYS:
        raise ValueError(f"frame must be 'lidar' or 'ego', got {frame!r}")
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[SIDEWAYS[frame], SIDEWAYS[frame]] = -1
    return matrix


def mirror_order(names: Sequence[str]) -> list[int]:
    """For each camera the one at the mirrored place: LEFT and RIGHT swap, the others stay.

    Raises:
        ValueError: a camera has no partner.
    """
    swapped = [name.replace("LEFT", "\0").replace("RIGHT", "LEFT").replace("\0", "RIGHT") for name in names]
    missing = [(name, partner) for name, partner in zip(names, swapped) if partner not in names]
    if missing:
        raise ValueError(f"cannot mirror the rig: camera {missing[0][0]} needs {missing[0][1]}, it has {list(names)}")
    return [list(names).index(partner) for partner in swapped]


def flip_cameras(images: Tensor, rig: CameraRig) -> tuple[Tensor, CameraRig]:
    """Each image flipped, and what a left camera saw handed to the right one of the same place.

    Camera ``i`` then looks where camera ``i`` looks once the reference frame is reflected, too.

    Args:
        images: (*B, N, 3, H, W).
        rig: of those images, with or without batch axis.
    """
    order, width = mirror_order(rig.names), rig.image_size_px[1]
    flip = torch.tensor([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    flipped = rig.select(order).augment_images(flip.to(rig.device), rig.image_size_px)
    return images[..., order, :, :, :].flip(-1), replace(flipped, names=rig.names)


def mirror_cameras(images: Tensor, rig: CameraRig, frame: ReferenceFrame) -> tuple[Tensor, CameraRig]:
    """What the same cameras would see of the mirrored world, exactly, whether the rig is symmetric or not.

    :func:`flip_cameras` in the reflected reference frame. The determinant of ``cam_from_ref`` becomes negative;
    projections stay true.
    """
    images, rig = flip_cameras(images, rig)
    return images, rig.augment_ref(mirror_matrix(frame).to(rig.device))
