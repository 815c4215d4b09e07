"""Image files to arrays, strictly: half a picture is an error, not a picture."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from bev.io.errors import FileError

_JPEG = b"\xff\xd8"
_EXIF_MARKS, _TIFF = (b"Exif\0\0", b"eXIf", b"EXIF"), (b"II*\0", b"MM\0*")
_MOST_PIXELS = 2**30  # OpenCV's own bound for the other formats
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def read_image(
    path: Path, record: str = "", size_px: tuple[int, int] | None = None, upright: bool = False
) -> np.ndarray:
    """Read and decode an image file.

    Args:
        path: JPEG, PNG, or another format that OpenCV decodes.
        record: who asks, e.g. ``"frame 3e87... CAM_FRONT"``, for the error message.
        size_px: (H, W) that the picture must have; None for any.
        upright: turn the picture as its EXIF tag says, as viewers show it; where ``size_px`` is that of the stored
            rows and columns and not of the turned ones, it stays as it is stored. False: always as stored, which is
            what a camera's calibration speaks of.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        FileError: missing, truncated, not an image, or of another size; names the file and the record.
    """
    where = f"{path} ({record})" if record else str(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{where}: cannot read the image: {error.strerror or error}") from error
    image = decode_image(data, where)
    if upright and (orientation := exif_orientation(data)) != 1:
        turned = turn_upright(image, orientation)
        image = image if size_px is not None and turned.shape[:2] != tuple(size_px) else turned
    if size_px is not None and image.shape[:2] != tuple(size_px):
        raise FileError(f"{where}: image is {image.shape[0]}x{image.shape[1]} px (HxW), expected {size_px}")
    return image


def decode_image(data: bytes, where: str) -> np.ndarray:
    """Decode the bytes of an image file to (H, W, 3) uint8 RGB; raises FileError naming ``where``."""
    if not data:
        raise FileError(f"{where}: the image file is empty")
    if data[:2] == _JPEG:
        try:
            # A damaged head may claim 12 GB of pixels, which would be allocated and filled before the end is missed.
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
            if height * width > _MOST_PIXELS:
                raise ValueError(f"its head claims {height}x{width} px (HxW)")
            # Twice as fast as PIL with the same pixels; warnings such as a premature end are errors (strict).
            return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
        except ValueError as error:
            raise FileError(f"{where}: truncated or damaged JPEG: {error}") from error
    # OpenCV fills the missing rows of a cut PNG silently.
    if data.startswith(_PNG) and _PNG_END not in data[-64:]:
        raise FileError(f"{where}: truncated PNG: no end mark")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:  # more pixels than OpenCV takes; a head that claims them is enough
        raise FileError(f"{where}: OpenCV cannot decode the image: {str(error).strip().splitlines()[-1]}") from error
    if image is None:
        raise FileError(f"{where}: not an image, or a damaged one (begins with {data[:8]!r})")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def exif_orientation(data: bytes) -> int:
    """1 to 8, EXIF's tag 0x0112 of an image file's bytes; 1 (as stored) where there is none or it makes no sense."""
    if not any(mark in data for mark in _EXIF_MARKS) and data[:4] not in _TIFF:
        return 1
    try:
        with Image.open(io.BytesIO(data)) as picture:
            value = picture.getexif().get(0x0112, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 1
    return value if value in range(1, 9) else 1


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, 3) as stored -> as shown (EXIF 2.3, section 4.6.4); a contiguous copy."""
    image = image.transpose(1, 0, 2) if orientation >= 5 else image
    # Mirrored left and right: 2, 3, 6, 7; top and bottom: 3, 4, 7, 8.
    image = image[:, ::-1] if orientation in (2, 3, 6, 7) else image
    return np.ascontiguousarray(image[::-1] if orientation in (3, 4, 7, 8) else image)
