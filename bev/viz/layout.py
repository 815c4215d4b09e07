"""One picture of a frame: cameras as a mosaic, the bird's-eye view, a title and a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bev.structures import Sample
from bev.viz.legend import blank, draw_legend, draw_title
from bev.viz.options import DrawOptions
from bev.viz.overlay import NOTHING, Overlay
from bev.viz.palette import GROUND, MUTED_INK, PAGE
from bev.viz.scene import Array, Scene
from bev.viz.style import BoxLayer
from bev.viz.text import Picture, blend, draw_text, text_size


def label_bev(picture: Picture, scene: Scene) -> None:
    """Write the scene's labels into its picture, in place; one that would all but touch an earlier one is left out."""
    side = picture.shape[0]
    text_px = max(round(side / 42), 8)
    taken: list[tuple[int, int, int, int]] = []
    for label in scene.labels:
        place = label_place(scene, np.array(label.xyz_m))
        if place is None:
            continue
        width, height = text_size(label.text, text_px)
        x, y = round(side / 2 * (1 + place[0]) - width / 2), round(side / 2 * (1 - place[1]) - height / 2)
        place_px = (x, y, x + width, y + height)
        if any(_near(place_px, other, text_px) for other in taken):
            continue  # in perspective far rings lie close together
        taken.append(place_px)
        # The ring is interrupted, points and boxes shine through.
        blend(picture, (x - 2, y), np.full((height, width + 4), 0.7, np.float32), GROUND)
        draw_text(picture, label.text, (x, y), text_px, MUTED_INK)


def _near(one: tuple[int, int, int, int], other: tuple[int, int, int, int], gap_px: int) -> bool:
    """Whether two places (left, top, right, bottom) are less than a gap apart."""
    return all(one[k] < other[k + 2] + gap_px and other[k] < one[k + 2] + gap_px for k in (0, 1))


def label_place(scene: Scene, xyz_m: Array) -> tuple[float, float] | None:
    """A point in the picture, -1..1 to the right and upwards; None behind the camera."""
    if scene.camera is None:
        up = np.array(scene.up_xy)
        xy = xyz_m[:2] / scene.range_m
        return float(xy @ [up[1], -up[0]]), float(xy @ up)
    eye, target = np.array(scene.camera.eye_m), np.array(scene.camera.target_m)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    seen = np.stack([right, np.cross(right, forward), forward]) @ (xyz_m - eye)
    half = np.tan(scene.camera.fov_rad / 2) * seen[2]
    return (float(seen[0] / half), float(seen[1] / half)) if seen[2] > 0.5 else None


def mosaic(rows: Sequence[Sequence[Picture]], gap_px: int) -> Picture:
    """Rows of pictures of one width, each row centred, on the page's colour."""
    heights = [max(tile.shape[0] for tile in row) for row in rows]
    widths = [sum(tile.shape[1] for tile in row) + gap_px * (len(row) - 1) for row in rows]
    page = blank(sum(heights) + gap_px * (len(rows) - 1), max(widths))
    top = 0
    for row, height, width in zip(rows, heights, widths):
        left = (page.shape[1] - width) // 2
        for tile in row:
            page[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
            left += tile.shape[1] + gap_px
        top += height + gap_px
    return page


def bev_below(cameras: Picture, options: DrawOptions) -> bool:
    """Whether the bird's-eye view goes below the cameras: where beside them it would be small."""
    if options.bev_position != "auto":
        return options.bev_position == "below"
    return cameras.shape[1] > 3.2 * cameras.shape[0]


def compose(
    cameras: Picture,
    bev: Picture,
    sample: Sample,
    layers: Sequence[BoxLayer],
    options: DrawOptions,
    overlay: Overlay = NOTHING,
) -> Picture:
    """The page: title, cameras with the bird's-eye view beside or below them, legend."""
    gap = gap_px(options)
    if bev_below(cameras, options):
        body = mosaic([[cameras], [bev]], gap)
    else:
        tall = max(cameras.shape[0], bev.shape[0])
        body = mosaic([[_centred(cameras, tall), _centred(bev, tall)]], gap)
    text_px = max(round(options.tile_width_px / 29), 9)
    width = body.shape[1] + 2 * gap
    head = draw_title(sample, layers, width, text_px, options)
    foot = draw_legend(layers, sample.points is not None, width, text_px, options, overlay)
    body = np.pad(body, ((0, gap), (gap, gap), (0, 0)))
    for edge in (body[-gap:], body[:, :gap], body[:, -gap:]):
        edge[:] = PAGE
    return np.concatenate([head, body, foot])


def gap_px(options: DrawOptions) -> int:
    """Between tiles and around the page."""
    return max(round(options.tile_width_px / 106), 2)


def _centred(picture: Picture, height: int) -> Picture:
    if picture.shape[0] == height:
        return picture
    page = blank(height, picture.shape[1])
    top = (height - picture.shape[0]) // 2
    page[top : top + picture.shape[0]] = picture
    return page
