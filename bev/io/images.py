"""Image files to arrays, strictly: half a picture is an error, not a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from bev.io.errors import FileError

_JPEG = b"\xff\xd8"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def read_image(path: Path, record: str = "", size_px: tuple[int, int] | None = None) -> np.ndarray:
    """Read and decode an image file.

    Args:
        path: JPEG, PNG, or another format that OpenCV decodes.
        record: who asks, e.g. ``"frame 3e87... CAM_FRONT"``, for the error message.
        size_px: (H, W) that the picture must have; None for any.

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
    if size_px is not None and image.shape[:2] != tuple(size_px):
        raise FileError(f"{where}: image is {image.shape[0]}x{image.shape[1]} px (HxW), expected {size_px}")
    return image


def decode_image(data: bytes, where: str) -> np.ndarray:
    """Decode the bytes of an image file to (H, W, 3) uint8 RGB; raises FileError naming ``where``."""
    if not data:
        raise FileError(f"{where}: the image file is empty")
    if data[:2] == _JPEG:
        try:
            # Twice as fast as PIL with the same pixels; warnings such as a premature end are errors (strict).
            return simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
        except ValueError as error:
            raise FileError(f"{where}: truncated or damaged JPEG: {error}") from error
    # OpenCV fills the missing rows of a cut PNG silently.
    if data.startswith(_PNG) and _PNG_END not in data[-64:]:
        raise FileError(f"{where}: truncated PNG: no end mark")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise FileError(f"{where}: not an image, or a damaged one (begins with {data[:8]!r})")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
