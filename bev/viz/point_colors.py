"""Colours of LiDAR points by height, intensity, camera or distance, and the words of the legend for them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bev.geometry.colouring import colour_points
from bev.registry import ConfigError
from bev.structures import Sample
from bev.viz.options import DrawOptions
from bev.viz.palette import GRID, HEIGHT_RANGE_M, height_colors, ramp_colors

# Of sensors that count to 255, most echoes stay below it (road 5 to 20, paint and signs above 50).
_BRIGHT = 60.0


def point_colors(sample: Sample, ground_m: float, options: DrawOptions) -> NDArray[np.uint8]:
    """(P, 3) sRGB of a sample's points.

    Args:
        ground_m: height of the ground in the sample's reference frame.

    Raises:
        ConfigError: colours by intensity of points that have none.
    """
    assert sample.points is not None
    xyz = sample.points.xyz_m.double().cpu().numpy()
    if options.point_color == "camera":
        return _camera_colors(sample)
    if options.point_color == "intensity":
        return _intensity_colors(sample)
    if options.point_color == "distance":
        return ramp_colors(np.linalg.norm(xyz[:, :2], axis=1) / options.range_m)
    return height_colors(xyz[:, 2] - ground_m)


def _intensity_colors(sample: Sample) -> NDArray[np.uint8]:
    assert sample.points is not None
    if "intensity" not in sample.points.fields:
        has = ", ".join(sample.points.fields) or "positions alone"
        raise ConfigError(f"frame {sample.token}: points have no intensity to be coloured by, they have {has}")
    return ramp_colors(point_bytes(sample) / 255)


def point_bytes(sample: Sample) -> NDArray[np.uint8]:
    """(P,) how bright a sample's points are, 0..255 by the square root of their intensity; 0 where they have none."""
    assert sample.points is not None
    if "intensity" not in sample.points.fields:
        return np.zeros(len(sample.points), np.uint8)
    value = np.nan_to_num(sample.points.fields["intensity"].double().cpu().numpy())
    # One scale for all frames, or a film would flicker: 0..1 as in KITTI, or 0..255 as in nuScenes.
    bright = 1.0 if float(np.max(value, initial=0)) <= 1 else _BRIGHT
    return (255 * np.sqrt(np.clip(value / bright, 0, 1))).astype(np.uint8)


def _camera_colors(sample: Sample) -> NDArray[np.uint8]:
    """What no camera sees is grey."""
    assert sample.points is not None
    xyz, rig = sample.points.xyz_m.float().cpu(), sample.rig.to("cpu")
    rgb, seen = colour_points(torch.nan_to_num(xyz), rig, sample.images.cpu())
    return np.where(seen.numpy()[:, None], rgb.numpy(), np.array(GRID, np.uint8)).astype(np.uint8)


def point_words(options: DrawOptions) -> tuple[str, bool]:
    """What the legend says of the points, and whether their ramp of colours is shown beside it."""
    low, high = HEIGHT_RANGE_M
    return {
        "height": (f"points, {low:g} to {high:g} m above ground", True),
        "distance": (f"points, 0 to {options.range_m:g} m away", True),
        "intensity": ("points, LiDAR intensity, weak to strong", True),
        "camera": ("points in the colour that a camera sees", False),
    }[options.point_color]
