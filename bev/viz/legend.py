"""What a picture says about itself: the title with the numbers of boxes, and the legend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from bev.structures import Sample
from bev.viz.options import DrawOptions
from bev.viz.overlay import NOTHING, CameraHeat, Overlay, Raster
from bev.viz.palette import GROUND_TRUTH, INK, MARK, MUTED_INK, PAGE, Color, heat_colors, ramp_colors
from bev.viz.point_colors import point_words
from bev.viz.style import BoxLayer
from bev.viz.text import Picture, blend, draw_text, text_size


def blank(height: int, width: int) -> Picture:
    """An empty piece of the page."""
    return np.full((height, width, 3), PAGE, np.uint8)


def draw_title(sample: Sample, layers: Sequence[BoxLayer], width: int, text_px: int, options: DrawOptions) -> Picture:
    """A strip with scene and token at the left, numbers of boxes at the right; the token is cut where room is short."""
    strip, margin, top = blank(round(text_px * 1.9), width), text_px // 2, text_px * 0.35
    counts = "    ".join(_count(layer, options) for layer in layers)
    draw_text(strip, counts, (width - margin, top), text_px, INK, "right")
    names = [" ".join(n for n in (sample.scene, t) if n) for t in (sample.token, f"{sample.token[:8]}...", "")]
    room = width - text_size(counts, text_px)[0] - 4 * margin
    name = next((n for n in names if text_size(n, text_px)[0] <= room), "")
    draw_text(strip, name, (margin, top), text_px, INK)
    return strip


def _count(layer: BoxLayer, options: DrawOptions) -> str:
    number = len(layer.boxes)
    if not layer.scores:
        return f"{number} {layer.name} box{'' if number == 1 else 'es'}"
    return f"{number} {layer.name}{'' if number == 1 else 's'} (score at least {options.score_threshold:g})"


def draw_legend(
    layers: Sequence[BoxLayer],
    points: bool,
    width: int,
    text_px: int,
    options: DrawOptions = DrawOptions(),
    overlay: Overlay = NOTHING,
) -> Picture:
    """How things are drawn, in as many lines as the width asks for.

    Args:
        layers: those of the picture; the classes that occur get a swatch.
        points: whether there are points, whose colours are explained.
        options: say what the colours of the points mean.
        overlay: what else is drawn.
    """
    cells = [cell for layer in layers for cell in _layer_cells(layer, text_px)]
    if any(len(layer.boxes) for layer in layers):
        cells += [_cell("heading", _wedge(text_px), text_px), _cell("velocity, way of 1 s", _arrow(text_px), text_px)]
    if points:
        words, ramp = point_words(options)
        cells.append(_cell(words, _ramp(text_px, ramp_colors) if ramp else None, text_px))
    return _in_lines(cells + _overlay_cells(overlay, text_px), width, text_px)


def _overlay_cells(overlay: Overlay, text_px: int) -> list[Picture]:
    cells = [_cell("way of a track", _way(text_px), text_px)] if overlay.tracks else []
    heats: list[Raster | CameraHeat] = [raster for raster in overlay.ground if raster.name]
    if overlay.camera_heat is not None:
        heats.append(overlay.camera_heat)
    for heat in heats:
        if heat.limits is not None:
            text = f"{heat.name}, {heat.limits[0]} to {heat.limits[1]}"
            cells.append(_cell(text, _ramp(text_px, heat_colors), text_px))
        elif isinstance(heat, Raster) and heat.shown.any():
            color = Color(*(int(c) for c in heat.color[heat.shown][0]))
            cells.append(_cell(heat.name, _painted(_mask(text_px, 0.8) + 1, color), text_px))
    if overlay.marks is not None:
        cells.append(_cell(overlay.marks.name, _dot(text_px), text_px))
    return cells


def class_legend(classes: Sequence[tuple[str, Color]], width: int, text_px: int) -> Picture:
    """Names with swatches of their colours, in as many lines as the width asks for."""
    cells = [_cell(name, _painted(_mask(text_px, 0.8) + 1, color), text_px) for name, color in classes]
    return _in_lines(cells, width, text_px)


def _in_lines(cells: Sequence[Picture], width: int, text_px: int) -> Picture:
    lines: list[list[Picture]] = [[]]
    for cell in cells:
        if lines[-1] and sum(c.shape[1] for c in (*lines[-1], cell)) + text_px > width:
            lines.append([])
        lines[-1].append(cell)
    page = blank(round(text_px * 1.7) * len(lines) + text_px // 3, width)
    for row, line in enumerate(lines):
        left = text_px // 2
        for cell in line:
            part = cell[:, : max(width - left, 0)]
            top = row * cell.shape[0]
            page[top : top + cell.shape[0], left : left + part.shape[1]] = part
            left += cell.shape[1]
    return page


def _layer_cells(layer: BoxLayer, text_px: int) -> list[Picture]:
    if not layer.by_class:
        return [_cell(layer.name, _dashes(text_px), text_px)]
    first = {int(label): i for i, label in enumerate(layer.boxes.label.tolist())}
    cells = [_cell(f"{layer.name}:", None, text_px)]
    for label in sorted(first):
        swatch = _mask(text_px, 0.8) + 1
        name = layer.class_names[label].replace("_", " ")
        cells.append(_cell(name, _painted(swatch, layer.color(first[label])), text_px))
    return cells


def _cell(text: str, symbol: Picture | None, text_px: int) -> Picture:
    """A symbol with its text, and room after it; all are of one height."""
    shift = 0 if symbol is None else symbol.shape[1] + round(text_px * 0.4)
    cell = blank(round(text_px * 1.7), shift + text_size(text, text_px)[0] + round(text_px * 1.2))
    if symbol is not None:
        top = (cell.shape[0] - symbol.shape[0]) // 2
        cell[top : top + symbol.shape[0], : symbol.shape[1]] = symbol
    draw_text(cell, text, (shift, text_px * 0.2), text_px, INK)
    return cell


def _mask(text_px: int, wide: float) -> NDArray[np.float32]:
    return np.zeros((max(round(text_px * 0.8), 5), max(round(text_px * wide), 3)), np.float32)


def _painted(coverage: NDArray[np.float32], color: Color) -> Picture:
    picture = blank(*coverage.shape)
    blend(picture, (0, 0), coverage, color)
    return picture


def _dashes(text_px: int) -> Picture:
    mask = _mask(text_px, 1.9)
    middle, dash, stroke = mask.shape[0] // 2, max(round(text_px * 0.5), 2), max(text_px // 9, 1)
    for start in range(0, mask.shape[1], round(dash * 1.4) + 1):
        mask[middle : middle + stroke, start : start + dash] = 1
    return _painted(mask, GROUND_TRUTH)


def _triangle(mask: NDArray[np.float32], corners: Sequence[tuple[float, float]]) -> None:
    fine = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(fine, [np.round(np.array(corners) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    np.maximum(mask, fine / np.float32(255), out=mask)


def _wedge(text_px: int) -> Picture:
    """A box seen from above with the wedge at its front."""
    mask = _mask(text_px, 1.6)
    height, width = mask.shape
    mask[:] = 0.35
    _triangle(mask, [(width - 1, (height - 1) / 2), (width * 0.55, 0), (width * 0.55, height - 1)])
    return _painted(mask, MUTED_INK)


def _arrow(text_px: int) -> Picture:
    mask = _mask(text_px, 1.9)
    height, width = mask.shape
    middle, stroke = (height - 1) / 2, max(text_px // 9, 1)
    neck = width - round(text_px * 0.75)
    top = round(middle - (stroke - 1) / 2)
    mask[top : top + stroke, :neck] = 1
    _triangle(mask, [(width - 1, middle), (neck, middle - height * 0.36), (neck, middle + height * 0.36)])
    return _painted(mask, INK)


def _way(text_px: int) -> Picture:
    """A line with knots that fades to its beginning, as a track is drawn."""
    mask = _mask(text_px, 2.2)
    height, width = mask.shape
    middle, stroke = height // 2, max(text_px // 9, 1)
    mask[middle : middle + stroke] = 1
    for knot in np.linspace(stroke, width - 2 * stroke - 1, 4).astype(int):
        mask[max(middle - stroke, 0) : middle + 2 * stroke, knot - stroke : knot + 2 * stroke] = 1
    return _painted(mask * np.linspace(0.35, 1, width, dtype=np.float32), INK)


def _dot(text_px: int) -> Picture:
    mask = _mask(text_px, 0.8)
    fine = np.zeros(mask.shape, np.uint8)
    middle = (mask.shape[0] - 1) / 2
    cv2.circle(fine, (round(middle * 16), round(middle * 16)), round(middle * 13), 255, -1, cv2.LINE_AA, 4)
    return _painted(fine / np.float32(255), MARK)


def _ramp(text_px: int, colors: Callable[[NDArray[np.float64]], Picture]) -> Picture:
    height, width = _mask(text_px, 4).shape
    return np.ascontiguousarray(np.broadcast_to(colors(np.linspace(0, 1, width)), (height, width, 3)))
