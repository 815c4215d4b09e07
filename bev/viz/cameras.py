"""Boxes drawn over the camera images.

Edges and faces are clipped in homogeneous image coordinates (u d, v d, d), where the projection is still linear,
against the near plane and the four sides of the image: a box that reaches behind the camera ends at the image border
instead of smearing across it, and no coordinate overflows.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bev.viz.options import DrawOptions
from bev.viz.palette import INK, MARK, PAGE, SHADOW, Color, heat_colors, ink_on
from bev.viz.style import BoxLayer
from bev.viz.text import Picture, blend, draw_text, text_size

Array = NDArray[np.float64]

NEAR_M = 0.2
FRONT_FACE = (0, 1, 5, 4)
EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
# Lines are drawn at this multiple of the picture's size and averaged, for smooth lines of fractional width.
_SUPERSAMPLING = 2
_SHIFT_BITS = 6


def project_homogeneous(xyz_m: Array, img_from_ref: Array) -> Array:
    """(..., 3) points in the reference frame, m, and (4, 4) -> (..., 3) homogeneous u d, v d, d (px m, px m, m)."""
    return xyz_m @ img_from_ref[:3, :3].T + img_from_ref[:3, 3]


def clip_polygon(homogeneous: Array, image_size_px: tuple[int, int], near_m: float = NEAR_M) -> Array:
    """The part of a convex polygon (or of a segment: two vertices) that a camera sees, after Sutherland-Hodgman (1974).

    Args:
        homogeneous: (V, 3) vertices u d, v d, d.
        image_size_px: (H, W).
        near_m: what is nearer than this along the optical axis is cut off.

    Returns:
        (V', 2) vertices in px, inside the image; (0, 2) where nothing is seen.
    """
    height, width = image_size_px
    planes = np.array([[0, 0, 1, -near_m], [1, 0, 0, 0], [-1, 0, width, 0], [0, 1, 0, 0], [0, -1, height, 0]])
    for plane in planes:
        homogeneous = _clip_to_plane(homogeneous, homogeneous @ plane[:3] + plane[3])
        if len(homogeneous) == 0:
            return np.zeros((0, 2))
    return homogeneous[:, :2] / homogeneous[:, 2:]


def _clip_to_plane(vertices: Array, distance: Array) -> Array:
    count, kept = len(vertices), []
    for i in range(count):
        j = (i + 1) % count
        if distance[i] >= 0:
            kept.append(vertices[i])
        # A segment has one side only: its way back would repeat the same crossing.
        if (distance[i] >= 0) != (distance[j] >= 0) and not (count == 2 and i == 1):
            kept.append(vertices[i] + distance[i] / (distance[i] - distance[j]) * (vertices[j] - vertices[i]))
    return np.array(kept).reshape(-1, 3)


def dash(start_px: Array, end_px: Array, dash_px: float) -> list[tuple[Array, Array]]:
    """A segment as dashes of about ``dash_px`` with gaps of 0.7 of them, starting and ending with a dash."""
    length = float(np.linalg.norm(end_px - start_px))
    count = max(round((length / dash_px + 0.7) / 1.7), 1)
    unit = 1 / (count + 0.7 * (count - 1))
    at = [(1.7 * unit * i, 1.7 * unit * i + unit) for i in range(count)]
    return [(start_px + a * (end_px - start_px), start_px + b * (end_px - start_px)) for a, b in at]


def draw_camera(
    image: Tensor,
    img_from_ref: Tensor,
    layers: tuple[BoxLayer, ...],
    options: DrawOptions,
    name: str = "",
    heat: NDArray[np.float32] | None = None,
    marks: tuple[Array, Array] | None = None,
) -> Picture:
    """One camera image with its boxes.

    Args:
        image: (3, H, W) uint8, RGB, at network size.
        img_from_ref: (4, 4) of this camera, as ``CameraRig.img_from_ref``.
        layers: boxes in the reference frame; later ones lie over earlier ones.
        name: written into the corner.
        heat: (h, w) 0..1 (NaN: nothing), drawn over the image and under the boxes.
        marks: (S, 2) places in network px and their (S,) weights 0..1, drawn over everything.

    Returns:
        (tile height, ``options.tile_width_px``, 3) uint8, RGB; the aspect ratio is kept.
    """
    source = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    width = options.tile_width_px
    height = max(round(width * source.shape[0] / source.shape[1]), 1)
    scale = np.array([width / source.shape[1], height / source.shape[0], 1.0, 1.0])
    matrix = scale[:, None] * img_from_ref.double().numpy()
    fine = (width * _SUPERSAMPLING, height * _SUPERSAMPLING)
    shrinks = fine[0] < source.shape[1]
    canvas = cv2.resize(source, fine, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    if heat is not None:
        canvas = _heated(canvas, heat)
    for layer in layers:
        _draw_boxes(canvas, layer, np.array([_SUPERSAMPLING, _SUPERSAMPLING, 1, 1])[:, None] * matrix)
    picture = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    if options.labels:
        plate = _name_size(name, max(round(width / 34), 8))
        taken = [(0.0, 0.0, float(plate[0]), float(plate[1]))] if name else []
        _draw_captions(picture, layers, matrix, max(round(width / 36), 7), taken)
    if marks is not None:
        _draw_marks(picture, marks[0] * [scale[0], scale[1]], marks[1])
    if name:
        _draw_camera_name(picture, name, max(round(width / 34), 8))
    return picture


def _heated(canvas: Picture, heat: NDArray[np.float32]) -> Picture:
    """The image in grey under the colours of a heat map, so that its own colours are not read as heat."""
    grey = cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    stretched = cv2.resize(heat, (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_NEAREST)
    mixed = (0.4 * grey + 0.6 * heat_colors(stretched)).astype(np.uint8)
    return np.where(np.isnan(stretched)[..., None], canvas, mixed)


def _draw_marks(picture: Picture, places_px: Array, weight: Array) -> None:
    """Dots with a dark rim; their area grows with the weight, the heaviest are drawn last."""
    inside = ((places_px >= 0) & (places_px < [picture.shape[1], picture.shape[0]])).all(-1)
    order = np.argsort(weight, kind="stable")
    largest = picture.shape[1] / 110
    for i in order[inside[order]]:
        center = tuple(int(x) for x in np.round((places_px[i] - 0.5) * 2**_SHIFT_BITS))
        radius = max(largest * float(np.sqrt(weight[i].clip(0, 1))), 1.2)
        for grown, color in ((radius * 1.35 + 0.6, SHADOW), (radius, MARK)):
            cv2.circle(picture, center, round(grown * 2**_SHIFT_BITS), color, -1, cv2.LINE_AA, _SHIFT_BITS)


def _nearest_last(corners: Array) -> NDArray[np.int64]:
    return np.argsort(-corners[..., 2].mean(-1), kind="stable")


def _draw_boxes(canvas: Picture, layer: BoxLayer, matrix: Array) -> None:
    corners = project_homogeneous(layer.corners_m(), matrix)
    for index in _nearest_last(corners):
        if (corners[index, :, 2] > NEAR_M).any():
            _draw_box(canvas, corners[index], layer.color(index), layer.by_class)


def _draw_box(canvas: Picture, corners: Array, color: Color, solid: bool) -> None:
    size = (canvas.shape[0], canvas.shape[1])
    segments = [s for edge in EDGES if len(s := clip_polygon(corners[list(edge)], size)) == 2]
    if not segments:
        return
    thickness = _thickness(np.concatenate(segments), size)
    if solid:
        _fill(canvas, clip_polygon(corners[list(FRONT_FACE)], size), color, 0.3)
        bottom = corners[:4]
        stem = clip_polygon(np.stack([bottom.mean(0), bottom[:2].mean(0)]), size)
        lines = [(s[0], s[1]) for s in (*segments, stem) if len(s) == 2]
        _lines(canvas, lines, SHADOW, round(thickness * 1.9))
        _lines(canvas, lines, color, round(thickness))
        return
    stem = clip_polygon(np.stack([corners[:4].mean(0), corners[:2].mean(0)]), size)
    dashes = [d for s in segments for d in dash(s[0], s[1], 5 * thickness)]
    dashes += [(stem[0], stem[1])] if len(stem) == 2 else []
    width = max(round(thickness * 0.6), 1)
    if width > 1:  # around a hairline, the dark rim would be all that is seen
        _lines(canvas, dashes, SHADOW, round(thickness * 1.4))
    _lines(canvas, dashes, color, width)


def _thickness(points_px: Array, size_px: tuple[int, int]) -> float:
    """Line width in proportion to the picture, down to half of it for small, far boxes that would fill up."""
    relative = float(np.ptp(points_px[:, 1])) / size_px[0]
    return max(size_px[1] / 450 * float(np.interp(relative, (0.06, 0.2), (0.55, 1.0))), 1.0)


def _lines(canvas: Picture, segments: list[tuple[Array, Array]], color: Color, thickness: int) -> None:
    for segment in segments:
        # cv2's integer coordinate c is the centre of pixel c, ours its left edge: hence the half pixel.
        start, end = (tuple(int(x) for x in np.round((p - 0.5) * 2**_SHIFT_BITS)) for p in segment)
        cv2.line(canvas, start, end, color, thickness, cv2.LINE_AA, _SHIFT_BITS)


def _fill(canvas: Picture, polygon_px: Array, color: Color, opacity: float) -> None:
    if len(polygon_px) < 3:
        return
    low, high = np.floor(polygon_px.min(0)).astype(int), np.ceil(polygon_px.max(0)).astype(int) + 1
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    points = np.round((polygon_px - low - 0.5) * 2**_SHIFT_BITS).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, _SHIFT_BITS)
    blend(canvas, (int(low[0]), int(low[1])), mask * np.float32(opacity / 255), color)


def _draw_captions(
    picture: Picture,
    layers: tuple[BoxLayer, ...],
    matrix: Array,
    text_px: int,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Captions of the boxes coloured by class, nearest first; none over another caption or over a nearer box.

    Args:
        taken: further rectangles (left, top, right, bottom) that stay free.
    """
    size = (picture.shape[0], picture.shape[1])
    for layer in (layer for layer in layers if layer.by_class):
        corners = project_homogeneous(layer.corners_m(), matrix)
        for index in _nearest_last(corners)[::-1]:
            bounds = _bounds(corners[index], size)
            if bounds is None:
                continue
            caption = layer.caption(index)
            place = _free_place(bounds, text_size(caption, text_px), size, taken)
            taken.append(bounds)
            if place is not None and bounds[3] - bounds[1] > 1.1 * text_px:
                taken.append(place)
                _draw_chip(picture, place, caption, layer.color(index), text_px)


def _bounds(corners: Array, size_px: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of what is seen of a box; None where nothing is."""
    seen = [s for edge in EDGES if len(s := clip_polygon(corners[list(edge)], size_px))]
    if not seen:
        return None
    points = np.concatenate(seen)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return float(left), float(top), float(right), float(bottom)


def _free_place(
    bounds: tuple[float, float, float, float],
    text: tuple[int, int],
    size_px: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of a caption above the box, else below or inside it; None where all of it is taken."""
    left, top, right, bottom = bounds
    width, height = text[0] + 6, text[1] + 1
    x = int(min(max((left + right - width) / 2, 0), size_px[1] - width))
    for y in (int(top) - height - 2, int(bottom) + 3, int(top) + 3):
        place = (x, y, x + width, y + height)
        apart = all(place[2] <= t[0] or t[2] <= place[0] or place[3] <= t[1] or t[3] <= place[1] for t in taken)
        if 0 <= y <= size_px[0] - height and apart:
            return place
    return None


def _draw_chip(picture: Picture, place: tuple[int, int, int, int], caption: str, color: Color, text_px: int) -> None:
    left, top, right, bottom = place
    blend(picture, (left, top), np.full((bottom - top, right - left), 0.88, np.float32), color)
    draw_text(picture, caption, (left + 3, top + 1), text_px, ink_on(color))


def _name_size(name: str, text_px: int) -> tuple[int, int]:
    """Width and height of the plate with a camera's name."""
    width, height = text_size(_shown_name(name), text_px)
    return width + 16, height + 6


def _shown_name(name: str) -> str:
    return name.removeprefix("CAM_").replace("_", " ")


def _draw_camera_name(picture: Picture, name: str, text_px: int) -> None:
    width, height = _name_size(name, text_px)
    blend(picture, (0, 0), np.full((height, width), 0.72, np.float32), PAGE)
    draw_text(picture, _shown_name(name), (8, 4), text_px, INK)
