"""A scene as one HTML file that opens without a server: pictures, points, boxes and their viewer are all inside.

The page asks no network for anything (its content security policy forbids it) and works from ``file://``. Points are
16-bit steps, packed by zlib, which browsers since 2023 unpack themselves (``DecompressionStream``); pictures are JPEG.
"""

from __future__ import annotations

import base64
import html
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import track

from bev.registry import ConfigError
from bev.structures import Boxes3D, Sample
from bev.viz import palette
from bev.viz.bev_scene import RefFrame, camera_rows, ego_mesh, ref_frame, ring_radii_m
from bev.viz.draw import Frames, OverlayOf, boxes_of_frame, camera_picture
from bev.viz.options import DrawOptions
from bev.viz.overlay import NOTHING, Overlay, Raster
from bev.viz.point_colors import point_bytes, point_colors
from bev.viz.style import BoxLayer, box_layers
from bev.viz.text import Picture

_WEB = Path(__file__).with_name("web")
# 2 cm is finer than LiDARs measure, and 16 bits of it reach 655 m.
_STEP_M = 0.02
_TILE_WIDTH_PX = 480


def write_page(
    path: str | Path,
    frames: Frames,
    predictions: Mapping[str, Boxes3D] | None,
    indices: Sequence[int],
    options: DrawOptions = DrawOptions(),
    overlay_of: OverlayOf = lambda sample: NOTHING,
    fps: float = 2.0,
) -> Path:
    """Write frames as a page, atomically, with a progress bar.

    All scores are inside; ``options.score_threshold`` is where the page's slider starts.

    Args:
        frames, predictions, indices, options, overlay_of: as of :func:`bev.viz.draw.draw_results`.
        fps: frames a second when it plays.

    Returns:
        The path.

    Raises:
        ConfigError: no frames, or frames of different cameras.
    """
    path, packed, first = Path(path), [], None
    for index in track(indices, description="page"):
        sample = frames[index]
        first = first or sample
        if sample.rig.names != first.rig.names:
            raise ConfigError(f"{path}: frames of different cameras, {first.rig.names} and {sample.rig.names}")
        packed.append(_frame(sample, boxes_of_frame(sample, predictions), options, overlay_of(sample)))
    if first is None:
        raise ConfigError(f"{path}: a page needs at least one frame")
    text = _fill(_page(first, packed, options, fps), f"{first.scene} - bird's-eye view")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return path


def _fill(page: Mapping[str, Any], title: str) -> str:
    # `</script` and `<!--` would end or bend the script element; in JSON `<` can be written otherwise.
    data = json.dumps(page, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "@TITLE@": html.escape(title),
        "@STYLE@": (_WEB / "viewer.css").read_text(encoding="utf-8"),
        "@SCRIPT@": "".join((_WEB / name).read_text(encoding="utf-8") for name in ("viewer.js", "app.js")),
        "@DATA@": data,
    }
    text = (_WEB / "page.html").read_text(encoding="utf-8")
    for mark, part in parts.items():  # the data last: what is in it is not looked at again
        before, _, after = text.partition(mark)
        text = before + part + after
    return text


def _page(sample: Sample, frames: list[dict[str, Any]], options: DrawOptions, fps: float) -> dict[str, Any]:
    frame = ref_frame(sample)
    names = [(i, name) for i, name in enumerate(options.class_names)]
    tones = {"page": palette.PAGE, "ground": palette.GROUND, "grid": palette.GRID, "ink": palette.INK}
    return {
        "frames": frames,
        "fps": fps,
        "cameras": [name.removeprefix("CAM_").replace("_", " ") for name in sample.rig.names],
        "rows": camera_rows(sample.rig, frame.forward_xy),
        "classes": [{"name": n.replace("_", " "), "colour": palette.class_color(n, i)} for i, n in names],
        "tones": {**tones, "muted": palette.MUTED_INK},
        "truth": palette.GROUND_TRUTH,
        "mark": palette.MARK,
        "ramp": palette.ramp_colors(np.linspace(0, 1, 6)).tolist(),
        "height_m": palette.HEIGHT_RANGE_M,
        "step_m": _STEP_M,
        "range_m": options.range_m,
        "rings_m": ring_radii_m(options.range_m),
        "ground_m": frame.ground_m,
        "forward_rad": float(np.arctan2(frame.forward_xy[1], frame.forward_xy[0])),
        "point_color": options.point_color,
        "score": options.score_threshold,
        "vehicle": _vehicle(frame),
    }


def _vehicle(frame: RefFrame) -> list[list[list[float]]]:
    """The vehicle's triangles, each three corners [m] and its colour."""
    mesh = ego_mesh(frame)
    corners = mesh.xyz_m[mesh.triangles].round(3)
    return [[*three, color] for three, color in zip(corners.tolist(), mesh.color[mesh.triangles[:, 0]].tolist())]


def _frame(sample: Sample, predictions: Boxes3D | None, options: DrawOptions, overlay: Overlay) -> dict[str, Any]:
    small = replace(options, tile_width_px=_TILE_WIDTH_PX, labels=False)
    pictures = [camera_picture(sample, i, (), small, overlay) for i in range(sample.rig.num_cameras)]
    layers = box_layers(sample, predictions, replace(options, score_threshold=0.0))
    height, width = sample.images.shape[-2:]
    matrices = sample.rig.img_from_ref.double().numpy()[:, :3] / np.array([width, height, 1.0])[:, None]
    heats = [r for r in (*overlay.ground, overlay.camera_heat) if r is not None and r.name]
    notes = [r.name + (f", {' to '.join(r.limits)}" if r.limits else "") for r in heats]
    return {
        "scene": sample.scene,
        "token": sample.token,
        "images": [_data_url(picture, ".jpg") for picture in pictures],
        "matrices": [[float(f"{value:.7g}") for value in matrix.ravel()] for matrix in matrices],
        "layers": [_layer(layer) for layer in layers],
        "tracks": [{"label": t.label, "path": t.path_m.round(2).tolist()} for t in overlay.tracks],
        "ground": [_ground(raster, i) for i, raster in enumerate(overlay.ground)],
        "marks": [] if overlay.marks is None else overlay.marks.xyz_m.round(2).tolist(),
        "notes": notes + ([] if overlay.marks is None else [overlay.marks.name]),
        **_points(sample, options),
    }


def _data_url(picture: Picture, suffix: str) -> str:
    order = [2, 1, 0, 3][: picture.shape[-1]]
    options = [cv2.IMWRITE_JPEG_QUALITY, 80] if suffix == ".jpg" else []
    done, data = cv2.imencode(suffix, np.ascontiguousarray(picture[..., order]), options)
    assert done  # an image in memory of a size that cv2 takes
    kind = "jpeg" if suffix == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"


def _ground(raster: Raster, number: int) -> dict[str, Any]:
    picture = np.concatenate([raster.color, 255 * raster.shown[..., None].astype(np.uint8)], -1)
    name = raster.name or f"ground {number}"
    return {"name": name, "x_m": raster.x_m, "y_m": raster.y_m, "data": _data_url(picture, ".png")}


def _layer(layer: BoxLayer) -> dict[str, Any]:
    b = layer.boxes
    velocity = np.nan_to_num(b.velocity_mps.double().numpy(), posinf=0.0, neginf=0.0)
    numbers = np.column_stack([b.center_m.double(), b.size_m.double(), b.yaw_rad.double(), velocity]).round(3)
    tracks = [None] * len(b) if b.track_id is None else b.track_id.tolist()
    scores = [round(value, 3) for value in b.score.tolist()]
    boxes = [[*row, *rest] for row, rest in zip(numbers.tolist(), zip(b.label.tolist(), scores, tracks))]
    return {"name": layer.name, "by_class": layer.by_class, "scores": layer.scores, "boxes": boxes}


def _points(sample: Sample, options: DrawOptions) -> dict[str, Any]:
    """Points within the range, as ``unpackPoints`` in viewer.js takes them apart."""
    if sample.points is None:
        return {"packed": "", "count": 0}
    xyz = sample.points.xyz_m.double().cpu().numpy()
    near = np.isfinite(xyz).all(1) & (np.abs(xyz).max(1, initial=0) <= options.range_m)
    steps = np.round(xyz[near] / _STEP_M).astype("<i2")
    color = point_colors(sample, ref_frame(sample).ground_m, replace(options, point_color="camera"))[near]
    data = steps.tobytes() + point_bytes(sample)[near].tobytes() + color.tobytes()
    return {"packed": base64.b64encode(zlib.compress(data, 9)).decode(), "count": int(near.sum())}
