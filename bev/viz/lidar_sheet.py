"""What the LiDAR tools of bev.geometry make of one frame, side by side: no renderer, plain pixels."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bev.geometry.boxes import points_in_boxes
from bev.geometry.ground import ground_mask
from bev.geometry.range_image import elevation_row, range_image
from bev.geometry.voxels import voxel_downsample
from bev.models.losses.depth import lidar_depth_targets
from bev.registry import ConfigError
from bev.structures import CameraRig, Sample
from bev.viz.bev_scene import camera_rows, ref_frame
from bev.viz.layout import mosaic
from bev.viz.options import DrawOptions
from bev.viz.palette import GRID, GROUND, INK, PAGE, class_color, ramp_colors
from bev.viz.point_colors import point_bytes, point_colors
from bev.viz.text import Picture, blend, draw_text, text_size

# Elevations of nuScenes' 32 beams, -30.67 to 10.67 degrees.
_ELEVATION_RAD = (-0.5353, 0.1862)
_ROWS, _SIDE_PX, _GAP_PX, _TEXT_PX = 32, 480, 6, 19
_VOXEL_M = 0.5
_RANGE_M = 60.0


def lidar_sheet(sample: Sample, options: DrawOptions = DrawOptions()) -> Picture:
    """Range images, ground, voxels, camera colours, points in boxes and a depth map of one frame.

    Args:
        sample: with points in its LiDAR or ego frame; boxes may be None.
        options: range of the views from above, and class names.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ConfigError: there are no points.
    """
    if sample.points is None or not len(sample.points):
        raise ConfigError(f"frame {sample.token} has no LiDAR points to draw")
    sample = replace(sample, points=sample.points[sample.points.xyz_m.isfinite().all(1)])
    from_above = [make(sample, options) for make in (_ground, _voxels, _colored, _boxes)]
    width = len(from_above) * _SIDE_PX + (len(from_above) - 1) * _GAP_PX
    rows = [[strip] for strip in (*_range_images(sample, width), _depth(sample, width))]
    return mosaic([*rows, from_above], _GAP_PX)


def _from_above(
    sample: Sample, xyz_m: torch.Tensor, color: NDArray[np.uint8], options: DrawOptions, name: str
) -> Picture:
    """Points seen from above, forward up; higher ones over lower ones."""
    picture = np.full((_SIDE_PX, _SIDE_PX, 3), GROUND, np.uint8)
    up = np.array(ref_frame(sample).forward_xy)
    xyz = xyz_m.double().numpy()
    right, ahead = xyz[:, :2] @ [up[1], -up[0]], xyz[:, :2] @ up
    scale = _SIDE_PX / (2 * options.range_m)
    column = np.floor(_SIDE_PX / 2 + right * scale).astype(int)
    row = np.floor(_SIDE_PX / 2 - ahead * scale).astype(int)
    order = np.argsort(xyz[:, 2], kind="stable")
    order = order[((column >= 0) & (column < _SIDE_PX - 1) & (row >= 0) & (row < _SIDE_PX - 1))[order]]
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):  # points of two pixels
        picture[row[order] + down, column[order] + across] = color[order]
    return _named(picture, name)


def _named(picture: Picture, name: str) -> Picture:
    width, height = text_size(name, _TEXT_PX)
    blend(picture, (0, 0), np.full((height + 6, width + 16), 0.75, np.float32), PAGE)
    draw_text(picture, name, (8, 4), _TEXT_PX, INK)
    return picture


def _sensor_m(sample: Sample) -> tuple[torch.Tensor, float]:
    """Points with the z axis through the sensor, and its height over the ground."""
    assert sample.points is not None
    xyz, ground_m = sample.points.xyz_m.float().cpu(), ref_frame(sample).ground_m
    if ground_m:  # the LiDAR frame: its origin is the sensor
        return xyz, -ground_m
    return xyz - torch.tensor([0.94, 0.0, 1.84]), 1.84


def _ground(sample: Sample, options: DrawOptions) -> Picture:
    assert sample.points is not None
    xyz, height_m = _sensor_m(sample)
    is_ground = ground_mask(xyz, height_m).numpy()
    color = point_colors(sample, ref_frame(sample).ground_m, replace(options, point_color="height"))
    color = np.where(is_ground[:, None], np.array(GRID, np.uint8), color)
    share = f"{100 * is_ground.mean():.0f} % ground (grey)"
    return _from_above(sample, sample.points.xyz_m.cpu(), color, options, share)


def _voxels(sample: Sample, options: DrawOptions) -> Picture:
    assert sample.points is not None
    few = replace(sample, points=voxel_downsample(sample.points, _VOXEL_M))
    assert few.points is not None
    color = point_colors(few, ref_frame(sample).ground_m, replace(options, point_color="height"))
    name = f"{_VOXEL_M:g} m voxels: {len(sample.points)} to {len(few.points)} points"
    return _from_above(sample, few.points.xyz_m.cpu(), color, options, name)


def _colored(sample: Sample, options: DrawOptions) -> Picture:
    assert sample.points is not None
    color = point_colors(sample, 0.0, replace(options, point_color="camera"))
    return _from_above(sample, sample.points.xyz_m.cpu(), color, options, "coloured by the cameras")


def _boxes(sample: Sample, options: DrawOptions) -> Picture:
    assert sample.points is not None
    xyz = sample.points.xyz_m.cpu()
    color = np.tile(np.array(GRID, np.uint8), (len(xyz), 1))
    inside = 0
    if sample.boxes is not None and len(sample.boxes):
        within = points_in_boxes(xyz.float(), sample.boxes.to("cpu"))
        inside = int(within.any(0).sum())
        for mask, label in zip(within.numpy(), sample.boxes.label.tolist()):
            color[mask] = class_color(options.class_names[label], label)
    return _from_above(sample, xyz, color, options, f"{inside} points in boxes, by class")


def _range_images(sample: Sample, width: int) -> list[Picture]:
    """By distance and by intensity, the middle column looks forward."""
    xyz, _ = _sensor_m(sample)
    x, y = ref_frame(sample).forward_xy
    turned = torch.stack([xyz[:, 0] * x + xyz[:, 1] * y, xyz[:, 1] * x - xyz[:, 0] * y, xyz[:, 2]], -1)
    row = elevation_row(turned, _ROWS, *_ELEVATION_RAD)
    columns = width // 2
    range_m, index = range_image(turned, row, _ROWS, columns)
    bright = point_bytes(sample)
    values = {
        f"range image, 0 to {_RANGE_M:g} m": range_m.numpy() / _RANGE_M,
        "the same pixels by intensity": bright[index.clamp(min=0).numpy()] / 255,
    }
    empty = (index < 0).numpy()
    strips = []
    for name, value in values.items():
        picture = np.where(empty[..., None], np.array(GROUND, np.uint8), ramp_colors(value))
        picture = picture.repeat(5, 0).repeat(2, 1)
        page = np.full((picture.shape[0], width, 3), GROUND, np.uint8)
        page[:, : picture.shape[1]] = picture
        strips.append(_named(page, name))
    return strips


def _depth(sample: Sample, width: int) -> Picture:
    """The nearest LiDAR depth in cells of the cameras of the first row, over their pictures."""
    assert sample.points is not None
    rig = sample.rig
    stride_px = max(rig.image_size_px[1] // 200, 1)
    batched = CameraRig.stack([rig])
    depth_m = lidar_depth_targets([sample.points], batched, stride_px)[0].numpy()
    row = camera_rows(rig, ref_frame(sample).forward_xy)[0]
    tile = (width - (len(row) - 1) * _GAP_PX) // len(row)
    pictures = [_depth_tile(sample, i, depth_m[i], stride_px, tile) for i in row]
    return _named(_padded(mosaic([pictures], _GAP_PX), width), f"depth maps, 0 to {_RANGE_M:g} m")


def _depth_tile(sample: Sample, index: int, depth_m: NDArray[np.float32], stride_px: int, width: int) -> Picture:
    image = sample.images[index].permute(1, 2, 0).numpy()
    size = (width, round(width * image.shape[0] / image.shape[1]))
    grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY) // 2
    picture = np.repeat(grey[..., None], 3, 2)
    row, column = np.nonzero(depth_m)
    scale = size[0] / (depth_m.shape[1] * stride_px) * stride_px
    color = ramp_colors(depth_m[row, column] / _RANGE_M)
    order = np.argsort(-depth_m[row, column], kind="stable")
    for k in order:  # far ones first
        y, x = int((row[k] + 0.5) * scale), int((column[k] + 0.5) * scale)
        picture[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = color[k]
    return picture


def _padded(picture: Picture, width: int) -> Picture:
    page = np.full((picture.shape[0], width, 3), PAGE, np.uint8)
    page[:, : picture.shape[1]] = picture[:, :width]
    return page
