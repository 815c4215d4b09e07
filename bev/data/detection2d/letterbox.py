"""Pictures scaled to fit, without a change of shape."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

Place = Literal["corner", "center"]


def letterbox(
    image: np.ndarray, size_px: tuple[int, int], pad_value: int = 114, place: Place = "corner", enlarge: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Scale a picture to fit and pad the rest.

    Args:
        image: (H, W, 3) uint8.
        size_px: (H', W') of the result.
        pad_value: grey level beside the picture.
        place: the picture in the upper left ``corner`` (YOLOX) or in the ``center``.
        enlarge: whether pictures smaller than ``size_px`` grow.

    Returns:
        (H', W', 3) uint8, and (3, 3) float64 homography from picture px to result px: both axes scale alike.

    Raises:
        ValueError: an empty picture or an unknown place.
    """
    height, width = image.shape[:2]
    if not height or not width or place not in ("corner", "center"):
        raise ValueError(f"letterbox: a picture of {image.shape} placed in {place!r} (corner or center)")
    scale = min(size_px[0] / height, size_px[1] / width)
    scale = scale if enlarge else min(scale, 1.0)
    inner = max(1, int(height * scale)), max(1, int(width * scale))
    scaled = image if inner == (height, width) else cv2.resize(image, inner[::-1], interpolation=cv2.INTER_LINEAR)
    top, left = (0, 0) if place == "corner" else ((size_px[0] - inner[0]) // 2, (size_px[1] - inner[1]) // 2)
    result = np.full((*size_px, 3), pad_value, np.uint8)
    result[top : top + inner[0], left : left + inner[1]] = scaled
    return result, np.array([[scale, 0.0, left], [0.0, scale, top], [0.0, 0.0, 1.0]])
