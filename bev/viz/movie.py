"""Pictures one after the other as a film: MP4 (H.264) or GIF.

MP4 goes through imageio-ffmpeg, a wheel that brings ffmpeg with x264: every browser and slide program plays H.264. The
writer inside OpenCV's wheels has no H.264 encoder, and browsers do not play what it has instead (MPEG-4 part 2). ffmpeg
is a process of its own and takes picture by picture, so that a film of any length needs the memory of a few pictures.
GIF is written by Pillow.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from bev._optional import require
from bev.viz.palette import (
    CLASS_COLORS,
    GRID,
    GROUND,
    GROUND_TRUTH,
    INK,
    MAP,
    MARK,
    PAGE,
    heat_colors,
    ramp_colors,
)
from bev.viz.text import Picture

FILM_SUFFIXES = (".mp4", ".gif")


def write_film(pictures: Iterable[Picture], path: str | Path, fps: float = 4.0, width_px: int | None = None) -> Path:
    """Write pictures as a film, atomically.

    Args:
        pictures: (H, W, 3) uint8 RGB; smaller ones than the first are centred on the page's colour, larger ones shrunk.
        path: its suffix, ``.mp4`` or ``.gif``, chooses the format.
        fps: pictures a second; key frames of nuScenes are half a second apart.
        width_px: shrink to this width; default: 1280 for a GIF, whose files grow large, else the pictures' own.

    Raises:
        ImportError: imageio-ffmpeg is not installed (for MP4).
        ValueError: no pictures, another suffix, or a rate that is not positive.
    """
    path = Path(path)
    if path.suffix not in FILM_SUFFIXES:
        raise ValueError(f"{path}: a film is {' or '.join(FILM_SUFFIXES)}")
    if not 0 < fps <= 120:
        raise ValueError(f"fps is {fps}, expected more than 0 and at most 120")
    ffmpeg = require("imageio_ffmpeg", extra="viz") if path.suffix == ".mp4" else None
    source = iter(pictures)
    first = next(source, None)
    if first is None:
        raise ValueError(f"{path}: a film needs at least one picture")
    width = min(width_px or (1280 if ffmpeg is None else first.shape[1]), first.shape[1])
    # Even numbers: H.264 stores colour at half the size.
    size = (max(width // 2 * 2, 2), max(round(first.shape[0] * width / first.shape[1]) // 2 * 2, 2))
    fitted = (_fit(picture, size) for picture in chain([first], source))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        if ffmpeg is None:
            _write_gif(fitted, temporary, fps)
        else:
            _write_mp4(ffmpeg, fitted, temporary, size, fps)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _fit(picture: Picture, size: tuple[int, int]) -> Picture:
    """The picture within (width, height), its sides in proportion."""
    scale = min(size[0] / picture.shape[1], size[1] / picture.shape[0], 1.0)
    inner = (min(round(picture.shape[1] * scale), size[0]), min(round(picture.shape[0] * scale), size[1]))
    if (inner[1], inner[0]) != picture.shape[:2]:
        picture = np.asarray(cv2.resize(picture, inner, interpolation=cv2.INTER_AREA))
    page = np.full((size[1], size[0], 3), PAGE, np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    page[top : top + inner[1], left : left + inner[0]] = picture
    return page


def _write_mp4(ffmpeg: object, pictures: Iterator[Picture], path: Path, size: tuple[int, int], fps: float) -> None:
    # A key frame every second, for scrubbing; `faststart` lets a browser play before it has the whole file.
    options = ["-crf", "20", "-preset", "medium", "-g", str(max(round(fps), 1)), "-movflags", "+faststart"]
    writer = ffmpeg.write_frames(  # type: ignore[attr-defined]
        str(path), size, fps=fps, codec="libx264", macro_block_size=2, output_params=options, ffmpeg_log_level="error"
    )
    writer.send(None)
    try:
        for picture in pictures:
            writer.send(np.ascontiguousarray(picture))
    finally:
        writer.close()


def _write_gif(pictures: Iterator[Picture], path: Path, fps: float) -> None:
    images = [Image.fromarray(picture) for picture in pictures]
    # One palette for all, of up to eight pictures: palettes of their own would let colours flicker.
    spread = np.unique(np.linspace(0, len(images) - 1, 8).round().astype(int))
    sample = np.concatenate([np.asarray(images[i]) for i in spread])
    palette = _palette(sample)
    flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    flat[0].save(path, save_all=True, append_images=flat[1:], duration=max(round(1000 / fps), 20), loop=0)


def _palette(pixels: Picture) -> Image.Image:
    """256 colours: those that mean something, which thin lines would not win a place for, and the pictures' own."""
    ramps = [tuple(int(c) for c in row) for ramp in (ramp_colors, heat_colors) for row in ramp(np.linspace(0, 1, 12))]
    named = list(dict.fromkeys([*CLASS_COLORS.values(), GROUND_TRUTH, MARK, PAGE, GROUND, MAP, GRID, INK, *ramps]))
    own = Image.fromarray(pixels).quantize(256 - len(named), Image.Quantize.MEDIANCUT).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(value for color in named for value in color), *own][: 3 * 256])
    return palette
