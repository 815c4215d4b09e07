"""One picture of a frame: cameras as a mosaic, the bird's-eye view, a title and a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bev.viz.options import DrawOptions
from bev.viz.palette import GROUND_TRUTH, INK, MUTED_INK, PAGE, Color
from bev.viz.scene import Scene
from bev.viz.style import BoxLayer
from bev.viz.text import Picture, blend, draw_text, text_size

_GAP = 1 / 106  # of a tile's width, between tiles and around the page


def label_bev(picture: Picture, scene: Scene) -> None:
    """Write the scene's labels into its picture from above, in place."""
    side = picture.shape[0]
    up = np.array(scene.up_xy)
    right = np.array([up[1], -up[0]])
    for label in scene.labels:
        xy = np.array(label.xyz_m[:2]) / scene.range_m
        at = (side / 2 * (1 + xy @ right), side / 2 * (1 - xy @ up) - side / 90)
        draw_text(picture, label.text, at, max(round(side / 62), 7), MUTED_INK, "center")


def mosaic(rows: Sequence[Sequence[Picture]], gap_px: int) -> Picture:
    """Rows of pictures of one width, each row centred, on the page's colour."""
    heights = [max(tile.shape[0] for tile in row) for row in rows]
    widths = [sum(tile.shape[1] for tile in row) + gap_px * (len(row) - 1) for row in rows]
    page = _page(sum(heights) + gap_px * (len(rows) - 1), max(widths))
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


def compose(cameras: Picture, bev: Picture, title: str, layers: Sequence[BoxLayer], options: DrawOptions) -> Picture:
    """The page: title, cameras with the bird's-eye view beside or below them, legend."""
    gap = max(round(options.tile_width_px * _GAP), 2)
    if bev_below(cameras, options):
        body = mosaic([[cameras], [bev]], gap)
    else:
        tall = max(cameras.shape[0], bev.shape[0])
        body = mosaic([[_centred(cameras, tall), _centred(bev, tall)]], gap)
    text_px = max(round(options.tile_width_px / 34), 9)
    head, foot = round(text_px * 1.9), round(text_px * 1.9)
    page = _page(body.shape[0] + head + foot + gap, body.shape[1] + 2 * gap)
    page[head : head + body.shape[0], gap : gap + body.shape[1]] = body
    draw_text(page, title, (2 * gap, text_px * 0.35), text_px, INK)
    _legend(page, (2 * gap, head + body.shape[0] + round(text_px * 0.35)), text_px, layers, options)
    return page


def _page(height: int, width: int) -> Picture:
    return np.full((height, width, 3), PAGE, np.uint8)


def _centred(picture: Picture, height: int) -> Picture:
    if picture.shape[0] == height:
        return picture
    page = _page(height, picture.shape[1])
    top = (height - picture.shape[0]) // 2
    page[top : top + picture.shape[0]] = picture
    return page


def _legend(
    page: Picture, at_px: tuple[int, int], text_px: int, layers: Sequence[BoxLayer], options: DrawOptions
) -> None:
    """How the layers are drawn, then the colours of the classes that occur."""
    x, y = at_px
    for layer in layers:
        if not layer.by_class:
            x = _dashes(page, (x, y), text_px)
            x = _entry(page, layer.name, (x, y), text_px, None)
        elif layer.scores:
            x = _entry(page, f"{layer.name} (score at least {options.score_threshold:g}):", (x, y), text_px, None)
        else:
            x = _entry(page, f"{layer.name}:", (x, y), text_px, None)
        if layer.by_class:
            found = {int(label): i for i, label in enumerate(layer.boxes.label.tolist())}
            for label in sorted(found):
                name = options.class_names[label].replace("_", " ")
                x = _entry(page, name, (x, y), text_px, layer.color(found[label]))
        x += text_px


def _dashes(page: Picture, at_px: tuple[int, int], text_px: int) -> int:
    x, y = at_px
    line = np.ones((max(text_px // 9, 1), round(text_px * 0.6)), np.float32)
    for i in range(2):
        blend(page, (x + i * text_px, y + round(text_px * 0.6)), line, GROUND_TRUTH)
    return x + round(2.1 * text_px)


def _entry(page: Picture, text: str, at_px: tuple[int, int], text_px: int, color: Color | None) -> int:
    """Write one entry, with a swatch where it has a colour; the x where the next one goes."""
    x, y = at_px
    if color is not None:
        swatch = np.ones((round(text_px * 0.8), round(text_px * 0.8)), np.float32)
        blend(page, (x, y + round(text_px * 0.25)), swatch, color)
        x += round(text_px * 1.15)
    draw_text(page, text, (x, y), text_px, INK)
    return x + text_size(text, text_px)[0] + round(text_px * 0.9)
