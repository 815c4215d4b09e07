"""Light and the far surroundings: the sun, the weather, and a panorama of sky, clouds and skyline."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

COLUMNS, ROWS = 2048, 288
TOP_RAD, BOTTOM_RAD = np.radians(48.0), np.radians(-6.0)


@dataclasses.dataclass(frozen=True)
class Light:
    """Light of a scene, in the city frame.

    Attributes:
        sun: (3,) unit vector towards the sun. direct, ambient: strengths of sun and sky light.
        tint: (3,) colour of the light. horizon, zenith: (3,) RGB of the sky. clouds: covered share, 0 to 1.
        name: for the scene's description.
    """

    sun: np.ndarray
    direct: float
    ambient: float
    tint: np.ndarray
    horizon: np.ndarray
    zenith: np.ndarray
    clouds: float
    name: str

    @property
    def shade(self) -> float:
        """Brightness of ground in shadow relative to ground in the sun."""
        return self.ambient / (self.ambient + self.direct * float(self.sun[2]))

    @property
    def shadow_reach(self) -> np.ndarray:
        """(2,) [m] where the shadow of a point 1 m above the ground falls."""
        reach = -self.sun[:2] / self.sun[2]
        length = float(np.linalg.norm(reach))
        return reach * min(1.0, 2.2 / max(length, 1e-6))

    def facing(self, normals: np.ndarray) -> np.ndarray:
        """Brightness (n,) of faces with outward unit normals (n, 3) in the city frame."""
        lambert = np.maximum(
            normals[:, 0] * self.sun[0] + normals[:, 1] * self.sun[1] + normals[:, 2] * self.sun[2], 0.0
        )
        return self.ambient * (0.86 + 0.14 * normals[:, 2]) + self.direct * lambert


def draw_light(random: np.random.Generator) -> Light:
    """Sunny, hazy, overcast or evening light with the sun anywhere."""
    kind = str(random.choice(["sunny", "hazy", "overcast", "evening"], p=[0.45, 0.2, 0.2, 0.15]))
    direct, ambient, low, high = {
        "sunny": (0.62, 0.58, 32, 65),
        "hazy": (0.40, 0.68, 28, 60),
        "overcast": (0.14, 0.82, 35, 70),
        "evening": (0.60, 0.50, 16, 28),
    }[kind]
    tint = {
        "sunny": (1.0, 0.985, 0.95),
        "hazy": (1.0, 0.99, 0.98),
        "overcast": (0.95, 0.98, 1.02),
        "evening": (1.08, 0.95, 0.80),
    }[kind]
    horizon, zenith = {
        "sunny": ((198, 214, 228), (82, 136, 202)),
        "hazy": ((206, 210, 212), (136, 168, 200)),
        "overcast": ((196, 200, 204), (150, 156, 164)),
        "evening": ((236, 196, 150), (88, 110, 160)),
    }[kind]
    azimuth, height = random.uniform(-np.pi, np.pi), np.radians(random.uniform(low, high))
    sun = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    clouds = {
        "sunny": random.uniform(0, 0.4),
        "hazy": random.uniform(0.2, 0.6),
        "overcast": 0.95,
        "evening": random.uniform(0.1, 0.5),
    }[kind]
    return Light(
        sun,
        direct,
        ambient,
        np.array(tint) + random.normal(0, 0.015, 3),
        np.array(horizon) + random.normal(0, 6),
        np.array(zenith) + random.normal(0, 8),
        float(clouds),
        kind,
    )


def paint_panorama(random: np.random.Generator, light: Light) -> np.ndarray:
    """(ROWS, 2 * COLUMNS, 3) uint8 RGB: elevation TOP_RAD..BOTTOM_RAD downwards, azimuth 0..4 pi (it repeats)."""
    elevation = np.linspace(TOP_RAD, BOTTOM_RAD, ROWS, dtype=np.float32)[:, None]
    azimuth = (np.arange(COLUMNS, dtype=np.float32) + 0.5) / COLUMNS * 2 * np.pi
    rise = np.clip(elevation / np.radians(50), 0, 1)[..., None] ** 0.6
    horizon, zenith = light.horizon.astype(np.float32), light.zenith.astype(np.float32)
    sky = _clouds(random, horizon * (1 - rise) + zenith * rise, light, rise)
    sun = light.sun.astype(np.float32)
    # Towards the sun: the scalar product of the ray (cos e cos a, cos e sin a, sin e) with its direction.
    glow = np.cos(elevation) * (np.cos(azimuth) * sun[0] + np.sin(azimuth) * sun[1]) + np.sin(elevation) * sun[2]
    glow = np.clip(glow, 0, 1)
    # 0.9**400 shows nowhere, and the powers of smaller numbers are subnormal: they took most of the panorama's time.
    shine = 0.55 * glow**12 + 1.2 * np.maximum(glow, 0.9) ** 400
    sky += (255 - sky) * np.clip(light.direct * shine, 0, 1)[..., None]
    image = np.clip(sky, 0, 255, out=sky).astype(np.uint8)
    _skyline(random, image, light)
    return np.concatenate([image, image], 1)


def _clouds(random: np.random.Generator, sky: np.ndarray, light: Light, rise: np.ndarray) -> np.ndarray:
    noise = np.zeros((ROWS, COLUMNS), np.float32)
    for cells, weight in ((6, 0.5), (14, 0.3), (40, 0.2)):
        field = random.random((max(2, cells // 2), cells)).astype(np.float32)
        field = np.concatenate([field, field[:, :1]], 1)  # the panorama closes on itself
        noise += weight * cv2.resize(field, (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC)
    cover = np.clip((noise - (0.72 - 0.5 * light.clouds)) * 4, 0, 1)[..., None] * (0.35 + 0.65 * rise)
    colour = light.horizon * 0.35 + 160 if light.name != "overcast" else light.zenith * 0.92
    return sky + (np.clip(colour, 0, 250).astype(np.float32) - sky) * (0.8 * cover)


def _skyline(random: np.random.Generator, image: np.ndarray, light: Light) -> None:
    """Hazy blocks and tree tops on the horizon, and the ground's haze below it."""

    def row(degrees: float) -> int:
        return int(round((TOP_RAD - np.radians(degrees)) / (TOP_RAD - BOTTOM_RAD) * (ROWS - 1)))

    haze = light.horizon
    for _ in range(150):
        x, width = int(random.integers(COLUMNS)), int(random.integers(6, 40))
        height, share = float(random.gamma(2.0, 1.0)), float(random.uniform(0.35, 0.75))
        block = np.clip(haze * (1 - share) + random.uniform(70, 150) * share + random.normal(0, 6, 3), 0, 255)
        image[row(height) : row(0), x : x + width] = block.astype(np.uint8)
    for _ in range(60):
        x, radius = int(random.integers(COLUMNS)), int(random.integers(4, 12))
        leaf = haze * 0.45 + np.array([70, 92, 60]) * 0.55
        cv2.ellipse(image, (x, row(0)), (radius * 2, radius), 0, 180, 360, tuple(float(v) for v in leaf), -1)
    image[row(0) :] = np.clip(haze * 0.55 + 62, 0, 255).astype(np.uint8)
