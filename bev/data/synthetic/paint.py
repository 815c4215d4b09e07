"""Colours: what the bodies and the streets of the synthetic world are painted with."""

from __future__ import annotations

import numpy as np

from bev.data.synthetic.shapes import Colour

GLASS: Colour = (54, 66, 78)
DARK: Colour = (34, 34, 37)
RUBBER: Colour = (26, 26, 28)
LAMP: Colour = (245, 240, 215)
TAIL: Colour = (170, 22, 22)
PLATE: Colour = (225, 225, 220)
STEEL: Colour = (128, 130, 134)
CONCRETE: Colour = (172, 168, 160)

CAR = (
    (235, 235, 236),
    (198, 200, 204),
    (120, 124, 130),
    (52, 55, 60),
    (38, 39, 44),
    (150, 26, 30),
    (30, 62, 128),
    (52, 96, 140),
    (92, 100, 84),
    (176, 150, 110),
    (206, 168, 42),
    (112, 52, 40),
    (200, 92, 34),
    (58, 112, 92),
)
VAN = ((238, 238, 236), (225, 226, 228), (190, 30, 34), (32, 72, 140), (236, 190, 40), (60, 120, 74), (90, 94, 100))
BUS = ((204, 38, 40), (38, 98, 172), (236, 236, 232), (44, 138, 82), (232, 166, 36), (122, 62, 140), (60, 64, 72))
MACHINE = (
    (236, 178, 28),
    (232, 178, 40),
    (226, 112, 28),
    (214, 200, 60),
    (210, 212, 208),
    (70, 130, 72),
    (196, 44, 36),
)
CLOTH = (
    (34, 36, 44),
    (60, 66, 84),
    (120, 122, 126),
    (214, 212, 206),
    (156, 38, 42),
    (44, 82, 140),
    (58, 102, 66),
    (196, 158, 60),
    (142, 92, 132),
    (206, 128, 92),
    (92, 66, 48),
    (30, 110, 120),
    (226, 182, 190),
    (236, 110, 30),
)
SKIN = ((236, 198, 168), (214, 166, 130), (172, 120, 88), (116, 78, 56), (82, 56, 42))
HAIR = ((28, 22, 20), (62, 44, 30), (112, 80, 46), (176, 150, 100), (140, 138, 136))
SAFETY = ((226, 84, 24), (236, 104, 20), (214, 44, 34), (238, 196, 40), (196, 220, 50))
WALL = (
    (178, 150, 126),
    (150, 96, 78),
    (196, 188, 172),
    (128, 130, 134),
    (206, 196, 180),
    (110, 90, 82),
    (160, 168, 172),
    (186, 160, 110),
    (92, 104, 116),
    (140, 118, 100),
)
LEAF = ((62, 94, 44), (78, 108, 50), (50, 82, 48), (104, 116, 52), (126, 104, 44))


def pick(random: np.random.Generator, palette: tuple[Colour, ...], spread: float = 8.0) -> Colour:
    """One colour of a palette, a little off."""
    base = (
        np.array(palette[int(random.integers(len(palette)))])
        + random.normal(0, spread / 2)
        + random.normal(0, spread / 2, 3)
    )
    return vary(base)


def vary(colour: np.ndarray | Colour, factor: float = 1.0) -> Colour:
    """A colour made brighter or darker, kept printable."""
    r, g, b = np.clip(np.asarray(colour, float) * factor, 6, 250)
    return (float(r), float(g), float(b))
