"""Frames as pictures: six cameras with boxes, and the bird's-eye view."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from rich.progress import track

from bev.structures import Boxes3D, Sample
from bev.viz.bev_scene import build_scene, camera_rows, ref_frame
from bev.viz.cameras import draw_camera
from bev.viz.layout import bev_below, compose, gap_px, label_bev, mosaic
from bev.viz.options import DrawOptions
from bev.viz.overlay import NOTHING, Overlay
from bev.viz.renderer import BEVRenderer, check_display, shared_renderer
from bev.viz.style import BoxLayer, box_layers
from bev.viz.text import Picture


class Frames(Protocol):
    """A data set of samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, item: int, /) -> Sample: ...


def frame_picture(
    sample: Sample,
    predictions: Boxes3D | None = None,
    options: DrawOptions = DrawOptions(),
    renderer: BEVRenderer | None = None,
    overlay: Overlay = NOTHING,
) -> Picture:
    """A frame as one picture.

    Args:
        sample: images at any size, drawn through ``rig.img_from_ref``; boxes are its ground truth; points are shown in
            the bird's-eye view where it has them.
        predictions: in the sample's reference frame; None where there are none to compare (ground truth is then
            coloured by class).
        renderer: default is the program's shared one.
        overlay: tracks, map, heat maps and marks, in the sample's reference frame.

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        ConfigError: the points cannot be coloured as the options ask.
        ImportError, RenderError: Open3D is not installed or cannot draw here.
    """
    renderer = renderer or shared_renderer()
    renderer.start()
    layers = box_layers(sample, predictions, options)
    scene = build_scene(sample, layers, options, overlay)
    rows = camera_rows(sample.rig, ref_frame(sample).forward_xy)
    tiles = [[camera_picture(sample, index, layers, options, overlay) for index in row] for row in rows]
    cameras = mosaic(tiles, gap_px(options))
    side = min(cameras.shape[1], 1400) if bev_below(cameras, options) else max(cameras.shape[0], 400)
    bev = renderer.render(scene, side)
    label_bev(bev, scene)
    return compose(cameras, bev, sample, layers, options, overlay)


def camera_picture(
    sample: Sample, index: int, layers: tuple[BoxLayer, ...], options: DrawOptions, overlay: Overlay = NOTHING
) -> Picture:
    """One camera of a frame with its boxes, heat map and marks, as :func:`bev.viz.cameras.draw_camera`."""
    heat = None if overlay.camera_heat is None else overlay.camera_heat.value[index]
    marks = None if overlay.marks is None else (overlay.marks.pixels_px[index], overlay.marks.weight[index])
    matrix, name = sample.rig.img_from_ref[index], sample.rig.names[index]
    return draw_camera(sample.images[index], matrix, layers, options, name, heat, marks)


def draw_frame(
    sample: Sample,
    predictions: Boxes3D | None,
    path: str | Path,
    options: DrawOptions = DrawOptions(),
    renderer: BEVRenderer | None = None,
    overlay: Overlay = NOTHING,
) -> Path:
    """Write :func:`frame_picture` as a PNG (or ``.jpg``), atomically; returns the path."""
    return write_picture(frame_picture(sample, predictions, options, renderer, overlay), path)


def write_picture(picture: Picture, path: str | Path) -> Path:
    """Write a picture as a PNG (or ``.jpg``), atomically; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix if path.suffix in (".jpg", ".jpeg") else ".png"
    done, data = cv2.imencode(kind, np.ascontiguousarray(picture[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])
    if not done:
        raise ValueError(f"{path}: a picture of shape {picture.shape} cannot be encoded")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data.tobytes())
    os.replace(temporary, path)
    return path


OverlayOf = Callable[[Sample], Overlay]


def draw_results(
    frames: Frames,
    predictions: Mapping[str, Boxes3D] | None,
    directory: str | Path,
    indices: Sequence[int] | None = None,
    options: DrawOptions = DrawOptions(),
    overlay_of: OverlayOf = lambda sample: NOTHING,
) -> list[Path]:
    """Write a PNG a frame, ``<position>_<token>.png``, with a progress bar.

    Args:
        frames: a data set; its samples' points are drawn where it loads them.
        predictions: boxes by token in each sample's reference frame; a frame without an entry has none. None draws
            the ground truth alone.
        indices: positions to draw; default: all.
        overlay_of: what else is drawn of a frame.
    """
    chosen = range(len(frames)) if indices is None else indices
    paths = []
    shared_renderer().start()
    for index in track(chosen, description="pictures"):
        sample = frames[index]
        path = Path(directory) / f"{index:05d}_{sample.token}.png"
        boxes, overlay = boxes_of_frame(sample, predictions), overlay_of(sample)
        paths.append(draw_frame(sample, boxes, path, options, overlay=overlay))
    return paths


def frame_pictures(
    frames: Frames,
    predictions: Mapping[str, Boxes3D] | None,
    indices: Sequence[int],
    options: DrawOptions = DrawOptions(),
    overlay_of: OverlayOf = lambda sample: NOTHING,
) -> Iterator[Picture]:
    """Pictures of frames one after the other, with a progress bar; arguments as those of :func:`draw_results`."""
    shared_renderer().start()
    for index in track(indices, description="pictures"):
        sample = frames[index]
        boxes = boxes_of_frame(sample, predictions)
        yield frame_picture(sample, boxes, options, overlay=overlay_of(sample))


def boxes_of_frame(sample: Sample, predictions: Mapping[str, Boxes3D] | None) -> Boxes3D | None:
    """Predictions of a frame: none found where it has no entry, None where there are no predictions at all."""
    if predictions is None or sample.token in predictions:
        return None if predictions is None else predictions[sample.token]
    return Boxes3D.empty(sample.boxes.frame if sample.boxes is not None else "lidar")


def show_results(
    frames: Frames,
    predictions: Mapping[str, Boxes3D] | None,
    indices: Sequence[int],
    options: DrawOptions = DrawOptions(),
    overlay_of: OverlayOf = lambda sample: NOTHING,
) -> None:
    """An Open3D window that plays the frames, until it is closed. Raises RenderError without a display."""
    check_display()
    scenes, titles = [], []
    for index in track(indices, description="frames"):
        sample = frames[index]
        layers = box_layers(sample, boxes_of_frame(sample, predictions), options)
        scenes.append(build_scene(sample, layers, options, overlay_of(sample)))
        titles.append(f"{sample.scene} {sample.token}")
    shared_renderer().show(scenes, titles)
