"""From light to a jpg: exposure, white balance, noise, compression."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import simplejpeg

PAD = 48  # the noise field is larger than a picture, so that its offset can be drawn anew


@functools.lru_cache(maxsize=4)
def _noise_field(width_px: int, height_px: int) -> np.ndarray:
    """(H + PAD, W + PAD, 3) int16, spread 32: the same for every scene; only its strength and offset vary."""
    random = np.random.default_rng(20180724)
    size = (height_px + PAD, width_px + PAD)
    grey, colour = random.standard_normal((*size, 1), np.float32), random.standard_normal((*size, 3), np.float32)
    return np.round(32 * (0.85 * grey + 0.55 * colour)).astype(np.int16)


class Film:
    """How one scene's cameras render light: gain and white balance of each, gamma and noise level of all."""

    def __init__(self, random: np.random.Generator, cameras: int, width_px: int, height_px: int, quality: int) -> None:
        self.random, self.quality, self.size = random, quality, (height_px, width_px)
        gamma, exposure = random.uniform(0.86, 1.16), random.uniform(0.86, 1.14)
        tint = 1 + random.normal(0, 0.02, 3)
        level = np.arange(256) / 255.0
        gains = (
            exposure * (1 + random.normal(0, 0.05, (cameras, 1))) * tint * (1 + random.normal(0, 0.012, (cameras, 3)))
        )
        curves = 255 * np.clip(gains[:, None, :] * level[:, None], 0, 1) ** gamma
        self.tables = np.round(curves).astype(np.uint8)[:, :, None, :]
        strength = random.uniform(0.04, 0.15)  # times the field's spread of about 32: 1.3 to 5 grey levels
        self.noise = np.round(_noise_field(width_px, height_px) * strength).astype(np.int16)

    def develop(self, camera: int, image: np.ndarray) -> bytes:
        """jpg of a picture (H, W, 3) uint8 RGB taken by the camera with this index."""
        y, x = (int(v) for v in self.random.integers(0, PAD, 2))
        height, width = self.size
        exposed = cv2.LUT(image, self.tables[camera])
        noisy = cv2.add(exposed, self.noise[y : y + height, x : x + width], dtype=cv2.CV_8U)
        return simplejpeg.encode_jpeg(noisy, quality=self.quality, colorspace="RGB", colorsubsampling="420")
