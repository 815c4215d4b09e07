"""A scene as a recording for the rerun viewer (https://rerun.io), which robot teams look at their logs with.

The world is the data set's global frame, moved so that the first frame is at its origin (rerun counts in float32); the
vehicle moves through it, and cameras, points and boxes are its children. Colours are those of the pictures.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import track

from bev._optional import require
from bev.structures import Boxes3D, Sample
from bev.viz.bev_scene import RefFrame, ego_mesh, ref_frame, ring_radii_m
from bev.viz.draw import Frames, OverlayOf, boxes_of_frame
from bev.viz.options import DrawOptions
from bev.viz.overlay import NOTHING, Overlay
from bev.viz.palette import GRID, class_color
from bev.viz.point_colors import point_colors
from bev.viz.scene import Array, Mesh, carpet
from bev.viz.style import BoxLayer, box_layers


def write_rerun(
    path: str | Path,
    frames: Frames,
    predictions: Mapping[str, Boxes3D] | None,
    indices: Sequence[int],
    options: DrawOptions = DrawOptions(),
    overlay_of: OverlayOf = lambda sample: NOTHING,
) -> Path:
    """Write frames as a ``.rrd`` file, atomically, with a progress bar.

    Args:
        frames, predictions, indices, options, overlay_of: as of :func:`bev.viz.draw.draw_results`.

    Returns:
        The path. On the time line ``time``, seconds count from the first frame.

    Raises:
        ImportError: rerun-sdk is not installed.
        ValueError: no frames.
    """
    rr, path = require("rerun", extra="rerun"), Path(path)
    if not len(indices):
        raise ValueError(f"{path}: a recording needs at least one frame")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    rr.init("bevstack")
    rr.save(str(temporary))
    try:
        rr.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        _log_surroundings(rr, ref_frame(frames[indices[0]]), options)
        start: Sample | None = None
        for index in track(indices, description="recording"):
            sample = frames[index]
            start = start or sample
            _set_time(rr, (sample.timestamp_us - start.timestamp_us) * 1e-6)
            _log_pose(rr, sample, start)
            _log_cameras(rr, sample)
            _log_points(rr, sample, options)
            for layer in box_layers(sample, boxes_of_frame(sample, predictions), options):
                _log_boxes(rr, layer)
            _log_overlay(rr, overlay_of(sample), sample, options)
    finally:
        rr.disconnect()  # writes what is left, closes the file
    os.replace(temporary, path)
    return path


def _set_time(rr: Any, seconds: float) -> None:
    if hasattr(rr, "set_time"):  # rerun-sdk 0.23 and later
        rr.set_time("time", duration=seconds)
    else:
        rr.set_time_seconds("time", seconds)


def _log_pose(rr: Any, sample: Sample, start: Sample) -> None:
    pose = sample.global_from_ref.double().numpy()
    origin = start.global_from_ref.double().numpy()[:3, 3]
    rr.log("world/vehicle", rr.Transform3D(translation=pose[:3, 3] - origin, mat3x3=pose[:3, :3]))


def _log_surroundings(rr: Any, frame: RefFrame, options: DrawOptions) -> None:
    """The vehicle and the range rings, once for all frames."""
    rr.log("world/vehicle/body", _mesh(rr, ego_mesh(frame)), static=True)
    angle, radii = np.linspace(0, 2 * np.pi, 181), ring_radii_m(options.range_m)
    circle = np.column_stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)])
    rings = [radius * circle + [0, 0, frame.ground_m] for radius in radii]
    names = [f"{radius:g} m" for radius in radii]
    rr.log("world/vehicle/rings", rr.LineStrips3D(rings, colors=tuple(GRID), labels=names, radii=0.04), static=True)


def _mesh(rr: Any, mesh: Mesh) -> Any:
    return rr.Mesh3D(vertex_positions=mesh.xyz_m, triangle_indices=mesh.triangles, vertex_colors=mesh.color)


def _log_cameras(rr: Any, sample: Sample) -> None:
    ref_from_cam = np.linalg.inv(sample.rig.cam_from_ref.double().numpy())
    intrinsics = (sample.rig.image_aug.double() @ sample.rig.intrinsics.double()).numpy()
    height, width = sample.images.shape[-2:]
    for i, name in enumerate(sample.rig.names):
        where, image = f"world/vehicle/{name}", sample.images[i].permute(1, 2, 0).numpy()
        rr.log(where, rr.Transform3D(translation=ref_from_cam[i, :3, 3], mat3x3=ref_from_cam[i, :3, :3]))
        rr.log(where, rr.Pinhole(image_from_camera=intrinsics[i], resolution=[width, height]))
        _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])
        rr.log(where, rr.EncodedImage(contents=data.tobytes(), media_type="image/jpeg"))


def _log_points(rr: Any, sample: Sample, options: DrawOptions) -> None:
    if sample.points is None:
        return
    xyz = sample.points.xyz_m.double().cpu().numpy()
    kept = np.isfinite(xyz).all(1)
    colors = point_colors(sample, ref_frame(sample).ground_m, options)
    rr.log("world/vehicle/points", rr.Points3D(xyz[kept], colors=colors[kept], radii=0.04))


def _log_boxes(rr: Any, layer: BoxLayer) -> None:
    boxes, where = layer.boxes, f"world/vehicle/{layer.name.replace(' ', '_')}"
    half = boxes.yaw_rad.double().numpy() / 2
    zero = np.zeros_like(half)
    colors = [tuple(layer.color(i)) for i in range(len(boxes))]
    rr.log(
        where,
        rr.Boxes3D(
            centers=boxes.center_m.double().numpy(),
            half_sizes=boxes.size_m.double().numpy() / 2,
            quaternions=np.stack([zero, zero, np.sin(half), np.cos(half)], -1),
            colors=colors,
            labels=[layer.caption(i) for i in range(len(boxes))],
            show_labels=False,
        ),
    )
    velocity = np.nan_to_num(np.column_stack([boxes.velocity_mps.double().numpy(), zero]))
    rr.log(f"{where}/velocity", rr.Arrows3D(origins=boxes.center_m.double().numpy(), vectors=velocity, colors=colors))


def _log_overlay(rr: Any, overlay: Overlay, sample: Sample, options: DrawOptions) -> None:
    paths: list[Array] = [track.path_m for track in overlay.tracks]
    colors = [tuple(class_color(options.class_names[track.label], track.label)) for track in overlay.tracks]
    rr.log("world/vehicle/tracks", rr.LineStrips3D(paths, colors=colors, labels=[t.name for t in overlay.tracks]))
    for number, raster in enumerate(overlay.ground):
        mesh = carpet(raster.color, raster.shown, raster.x_m, raster.y_m, ref_frame(sample).ground_m - 0.05)
        rr.log(f"world/vehicle/ground_{number}", _mesh(rr, mesh))
    if overlay.marks is not None:
        rr.log("world/vehicle/marks", rr.Points3D(overlay.marks.xyz_m, colors=(255, 255, 90), radii=0.3))
