"""Anti-aliased text on uint8 pictures, from Pillow's own font, so that pictures look alike on every machine."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from unicodedata import combining, normalize

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bev.viz.palette import Color

Picture = NDArray[np.uint8]


@lru_cache(maxsize=32)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


@lru_cache(maxsize=32)
def _wide_font(size_px: int) -> ImageFont.FreeTypeFont | None:
    """Pillow's own font has no letters beyond ASCII; DejaVu Sans comes with matplotlib, where that is installed."""
    found = find_spec("matplotlib")
    path = Path(found.origin or "").parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if found is not None else Path()
    return ImageFont.truetype(path, size_px) if path.is_file() else None


def _ascii(text: str) -> str:
    """Letters without their marks, what is left as a question mark."""
    plain = "".join(c for c in normalize("NFKD", text.replace("\u00df", "ss")) if not combining(c))
    return plain.encode("ascii", "replace").decode()


@lru_cache(maxsize=4096)
def text_mask(text: str, size_px: int) -> NDArray[np.float32]:
    """(h, w) coverage 0..1 of one line; its height depends on ``size_px`` alone, so that lines align."""
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont | None = None if text.isascii() else _wide_font(size_px)
    text = text if font is not None else _ascii(text)
    font = font or _font(size_px)
    width = int(np.ceil(font.getlength(text)))
    canvas = Image.new("L", (max(width, 1), round(size_px * 1.25)))
    ImageDraw.Draw(canvas).text((0, 0), text, fill=255, font=font)
    return np.asarray(canvas, np.float32) / 255


def text_size(text: str, size_px: int) -> tuple[int, int]:
    """(width, height) of one line, px."""
    height, width = text_mask(text, size_px).shape
    return width, height


def draw_text(
    picture: Picture, text: str, xy_px: tuple[float, float], size_px: int, color: Color, align: str = "left"
) -> None:
    """Write one line into a (H, W, 3) RGB picture, in place; what falls outside is cut off.

    Args:
        xy_px: top of the line, and its left end, middle or right end by ``align``.
        align: ``left``, ``center`` or ``right``.
    """
    mask = text_mask(text, size_px)
    shift = {"left": 0.0, "center": 0.5, "right": 1.0}[align]
    x, y = round(xy_px[0] - shift * mask.shape[1]), round(xy_px[1])
    blend(picture, (x, y), mask, color)


def blend(picture: Picture, xy_px: tuple[int, int], coverage: NDArray[np.float32], color: Color) -> None:
    """Paint ``color`` through a (h, w) coverage mask whose upper left corner lies at ``xy_px``, in place."""
    x, y = xy_px
    height, width = coverage.shape
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + height, picture.shape[0]), min(x + width, picture.shape[1])
    if top >= bottom or left >= right:
        return
    part = coverage[top - y : bottom - y, left - x : right - x, None]
    region = picture[top:bottom, left:right]
    region[:] = (region + part * (np.asarray(color, np.float32) - region) + 0.5).astype(np.uint8)
