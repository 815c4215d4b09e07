"""What a detector computed on its way, in the places where it is drawn."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bev.registry import ConfigError
from bev.structures import CameraRig, Sample
from bev.viz.overlay import CameraHeat, Marks, Overlay, Raster
from bev.viz.palette import heat_colors
from bev.viz.recorder import Insight
from bev.viz.scene import Array

# Camera heat maps are made at this width; they are stretched when drawn.
_HEAT_WIDTH_PX = 320


def with_insight(overlay: Overlay, insight: Insight, sample: Sample, depth: bool, bev: bool) -> Overlay:
    """An overlay with what a detector computed.

    Args:
        insight: of the same frame; its images may have another size and crop than the sample's.
        depth: show the depth maps.
        bev: show the bird's-eye-view features.

    Raises:
        ConfigError: the detector has no such thing.
    """
    img_from_network = _img_from_network(insight.rig, sample.rig)
    if depth:
        overlay = replace(overlay, camera_heat=_depth(insight, img_from_network, sample))
    if bev:
        overlay = replace(overlay, ground=(*overlay.ground, _features(insight)))
    if insight.looks is not None:
        overlay = replace(overlay, marks=_marks(insight, img_from_network))
    return overlay


def _img_from_network(network: CameraRig, drawn: CameraRig) -> NDArray[np.float64]:
    """(N, 3, 3) homographies from pixels that the model saw to pixels that are drawn."""
    return (drawn.image_aug.double() @ torch.linalg.inv(network.image_aug.double())).numpy()


def _features(insight: Insight) -> Raster:
    if insight.bev is None:
        raise ConfigError("this model has no bird's-eye-view features to draw (DETR3D has none)")
    top = float(np.quantile(insight.bev, 0.95)) or 1.0  # the grid's rim is often far longer than the rest
    low = float(insight.bev.min())
    # 24 steps are as fine as the eye sees here, and neighbours of one step become one rectangle.
    level = np.round((insight.bev - low) / max(top - low, 1e-9) * 24).clip(0, 24) / 24
    shown = np.ones(level.shape, np.bool_)
    return Raster(heat_colors(level), shown, insight.x_m, insight.y_m, "length of BEV features", ("short", "long"))


def _depth(insight: Insight, img_from_network: NDArray[np.float64], sample: Sample) -> CameraHeat:
    if insight.depth_m is None:
        raise ConfigError("this model has no depth distribution to draw")
    low, high = insight.depth_range_m
    value = (insight.depth_m - low) / max(high - low, 1e-9)
    height, width = sample.images.shape[-2:]
    size = (_HEAT_WIDTH_PX, max(round(_HEAT_WIDTH_PX * height / width), 1))
    maps = [_stretched(v, insight.rig, h, size, width) for v, h in zip(value, img_from_network)]
    return CameraHeat(np.stack(maps), "mean of the depth distribution", (f"{low:.0f}", f"{high:.0f} m"))


def _stretched(
    value: NDArray[np.float32], rig: CameraRig, img_from_network: Array, size: tuple[int, int], width_px: int
) -> NDArray[np.float32]:
    """A feature map in the place of the drawn image that it was computed from; NaN where the model saw nothing."""
    rows, columns = value.shape
    high, wide = rig.image_size_px
    # Both ends in cv2's pixels, whose integers are centres.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    network_from_map = np.diag([wide / columns, high / rows, 1.0])
    shrink = np.diag([size[0] / width_px, size[0] / width_px, 1.0])
    matrix = np.linalg.inv(half) @ shrink @ img_from_network @ network_from_map @ half
    return np.asarray(
        cv2.warpPerspective(value, matrix, size, flags=cv2.INTER_NEAREST, borderValue=float("nan")), np.float32
    )


def _marks(insight: Insight, img_from_network: NDArray[np.float64]) -> Marks:
    assert insight.looks is not None
    pixels = []
    for places, matrix in zip(insight.looks.pixels_px, img_from_network):
        moved = np.column_stack([places, np.ones(len(places))]) @ matrix.T
        pixels.append(moved[:, :2] / moved[:, 2:])
    strongest = max((float(w.max()) for w in insight.looks.weight if len(w)), default=1.0) or 1.0
    weight = tuple(w / strongest for w in insight.looks.weight)
    return Marks(insight.looks.name, insight.looks.xyz_m, tuple(pixels), weight)
