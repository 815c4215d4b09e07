"""Cones, barriers and carts, and the unlabelled street: houses, trees, posts, hedges (builders as in vehicles.py)."""

from __future__ import annotations

import numpy as np

from bev.data.synthetic import paint
from bev.data.synthetic.shapes import BACK, FRONT, LEFT, RIGHT, TOP, Solid, block, column

Random = np.random.Generator
INSET = 0.03
WHITE = (236, 236, 232)


def cone(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A cone with bands on a square foot, a drum, or a slim post on a round foot."""
    half, colour = min(w, l) / 2 - 0.02, paint.pick(random, paint.SAFETY)
    kind = random.choice(["cone", "drum", "post"], p=[0.68, 0.16, 0.16])
    foot = 0.05 if kind == "cone" else 0.09
    bottom, top = {"cone": (0.80, 0.16), "drum": (1.0, 0.86), "post": (0.30, 0.26)}[str(kind)]
    edges = np.array([0.0, 0.34, 0.52, 0.68, 0.84, 1.0]) if random.random() < 0.7 else np.array([0.0, 0.45, 0.75, 1.0])
    height, radius = foot + edges * (h - INSET - foot), half * (bottom + edges * (top - bottom))
    base_colour = colour if random.random() < 0.5 else paint.DARK
    base = (
        block((-half, half), (-half, half), (0.0, foot), base_colour)
        if kind == "cone"
        else column((0, 0), (0.0, foot), (half, half * 0.9), paint.DARK)
    )
    bands = [
        column(
            (0, 0),
            (height[k], height[k + 1]),
            (radius[k], radius[k + 1]),
            colour if k % 2 == 0 else WHITE,
            reflectance=0.5 if k % 2 == 0 else 0.95,
        )
        for k in range(len(edges) - 1)
    ]
    return [base] + bands


def barrier(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A concrete wall element, a striped board on feet, a plastic element or a crowd fence; long along y."""
    kind = random.choice(["concrete", "board", "plastic", "fence"], p=[0.3, 0.3, 0.25, 0.15])
    x, half, top = l / 2 - INSET, w / 2 - INSET, h - INSET
    if kind == "concrete":
        colour = paint.pick(random, (paint.CONCRETE, (150, 148, 144)))
        foot = block((-x, x), (-half, half), (0.0, 0.32 * h), colour, (-x * 0.45, x * 0.45), reflectance=0.35)
        wall = block(
            (-x * 0.45, x * 0.45), (-half, half), (0.32 * h, top), colour, (-x * 0.32, x * 0.32), reflectance=0.35
        )
        return [
            foot,
            _stripes(wall, paint.pick(random, paint.SAFETY), (0.55, 0.85), 5) if random.random() < 0.5 else wall,
        ]
    if kind == "plastic":
        colour = paint.pick(random, ((226, 84, 24), (214, 44, 34), WHITE, (236, 170, 30)))
        wall = block((-x, x), (-half, half), (0.0, top), colour, (-x * 0.5, x * 0.5), reflectance=0.5)
        other = WHITE if colour[1] < 200 else (214, 60, 30)
        return [_stripes(wall, other, (0.35, 0.70), 4)]
    if kind == "board":
        colour = paint.pick(random, ((214, 44, 34), (226, 96, 24), (30, 30, 34)))
        second = WHITE if random.random() < 0.7 else (240, 200, 40)
        feet = [block((-x, x), (y - 0.06, y + 0.06), (0.0, 0.12), paint.DARK) for y in (-half * 0.8, half * 0.8)]
        posts = [
            block((-0.04, 0.04), (y - 0.05, y + 0.05), (0.12, 0.45 * h), paint.STEEL) for y in (-half * 0.8, half * 0.8)
        ]
        board = block((-0.05, 0.05), (-half, half), (0.45 * h, top), second, reflectance=0.9)
        return feet + posts + [_stripes(board, colour, (0.0, 1.0), 6)]
    posts = [block((-0.03, 0.03), (y - 0.03, y + 0.03), (0.06, top), paint.STEEL) for y in (-half + 0.03, half - 0.03)]
    feet = [block((-x, x), (y - 0.03, y + 0.03), (0.0, 0.06), paint.STEEL) for y in (-half + 0.03, half - 0.03)]
    mesh = block((-0.02, 0.02), (-half + 0.06, half - 0.06), (0.15, top), (150, 154, 158))
    for face in (FRONT, BACK):
        for u in np.linspace(0.03, 0.93, 9):
            mesh.stripe(face, u, u + 0.05, 0.06, 0.92, (84, 88, 92))
    return posts + feet + [mesh]


def _stripes(solid: Solid, colour: paint.Colour, v: tuple[float, float], count: int) -> Solid:
    """Bands of a second colour along a barrier's two long faces and its top."""
    for k in range(count):
        a = (k + 0.25) / count
        for face in (FRONT, BACK):
            solid.stripe(face, a, a + 0.5 / count, v[0], v[1], colour)
    return solid


def cart(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A wheeled waste bin (movable_object.pushable_pullable: annotated, but no detection class)."""
    x, half, colour = l / 2 - INSET, w / 2 - INSET, paint.pick(random, ((40, 96, 56), (44, 62, 110), (70, 70, 74)))
    bin_ = block((-x * 0.75, x * 0.75), (-half * 0.8, half * 0.8), (0.06, 0.9 * h), colour, (-x, x), (-half, half))
    lid = block((-x, x), (-half, half), (0.9 * h, h - INSET), paint.vary(colour, 0.7))
    foot = block((-x * 0.7, -x * 0.3), (-half * 0.7, half * 0.7), (0.0, 0.06), paint.DARK)
    return [bin_, lid, foot]


def house(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A building: floors of windows between piers, a shop front, sometimes a roof storey or a gable roof."""
    colour = paint.pick(random, paint.WALL, 14)
    glass = paint.pick(random, ((58, 70, 84), (84, 98, 112), (40, 46, 56), (112, 122, 130)))
    floors, base = max(1, int(h / 3.4)), float(random.uniform(0.05, 0.12))
    body = block((-l / 2, l / 2), (-w / 2, w / 2), (0.0, h * 0.94), colour, reflectance=0.35)
    shop = paint.pick(random, paint.BUS)
    glassy = random.random() < 0.25
    for face, length in ((LEFT, l), (RIGHT, l), (FRONT, w), (BACK, w)):
        body.stripe(face, 0.0, 1.0, 0.0, 0.012, paint.vary(colour, 0.5))
        for floor in range(floors):
            v0, v1 = base + (1 - base) * (floor + 0.28) / floors, base + (1 - base) * (floor + 0.82) / floors
            body.stripe(face, 0.03, 0.97, v0, v1, shop if floor == 0 and random.random() < 0.3 else glass)
        piers = max(2, int(length / (1.7 if not glassy else 4.0)))
        for k in range(1, piers):
            u = 0.03 + 0.94 * k / piers
            body.stripe(face, u - 0.17 / piers, u + 0.17 / piers, base, 0.99, colour)
    if random.random() < 0.4:
        inner = (-l / 2 + 1.2, l / 2 - 1.2), (-w / 2 + 1.2, w / 2 - 1.2)
        roof = block(
            (-l / 2, l / 2), (-w / 2, w / 2), (h * 0.94, h), paint.pick(random, ((120, 62, 48), (86, 84, 86))), *inner
        )
    else:
        roof = block((-l / 2, l / 2), (-w / 2, w / 2), (h * 0.94, h), paint.vary(colour, 0.75))
    return [body, roof]


def tree(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A trunk and two or three storeys of leaves."""
    leaf, crown, reach = paint.pick(random, paint.LEAF, 14), 0.35 * h, w / 2
    trunk = column((0, 0), (0.0, crown), (0.16, 0.12), (84, 66, 50), reflectance=0.2)
    edges, radii = np.array([crown, 0.52 * h, 0.78 * h, h]), np.array([0.55, 1.0, 0.85, 0.25]) * reach
    if random.random() < 0.3:
        radii = np.array([0.9, 1.0, 0.55, 0.05]) * reach
    crown_solids = [
        column(
            (0, 0),
            (edges[k], edges[k + 1]),
            (radii[k], radii[k + 1]),
            paint.vary(leaf, 0.85 + 0.15 * k),
            reflectance=0.45,
        )
        for k in range(3)
    ]
    return [trunk] + crown_solids


def post(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A street lamp, a traffic light or a road sign."""
    kind = random.choice(["lamp", "light", "sign"], p=[0.45, 0.25, 0.3])
    grey = paint.pick(random, ((96, 98, 102), (60, 64, 66), (140, 142, 146)))
    if kind == "lamp":
        return [
            column((0, 0), (0.0, h * 0.93), (0.10, 0.06), grey),
            block((-0.3, 0.3), (-0.2, 0.2), (h * 0.93, h), (210, 210, 200), (-0.15, 0.15), (-0.1, 0.1)),
        ]
    height = min(h, 3.4)
    pole = column((0, 0), (0.0, height * 0.72), (0.06, 0.06), grey)
    if kind == "light":
        lamp = block((-0.15, 0.15), (-0.16, 0.16), (height * 0.72, height), (36, 38, 36))
        for face in (FRONT, BACK):
            lamp.stripe(face, 0.25, 0.75, 0.70, 0.94, (190, 40, 36)).stripe(face, 0.25, 0.75, 0.06, 0.30, (50, 150, 80))
        return [pole, lamp]
    sign = block(
        (-0.03, 0.03),
        (-0.36, 0.36),
        (height * 0.72, height),
        paint.pick(random, ((40, 80, 160), (190, 40, 40), WHITE, (230, 190, 40))),
        reflectance=0.95,
    )
    return [pole, sign.stripe(FRONT, 0.2, 0.8, 0.4, 0.6, WHITE)]


def hedge(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A clipped hedge or a low garden wall."""
    if random.random() < 0.5:
        return [block((-l / 2, l / 2), (-w / 2, w / 2), (0.0, h), paint.pick(random, paint.LEAF, 14), reflectance=0.45)]
    wall = block((-l / 2, l / 2), (-w / 2, w / 2), (0.0, h), paint.pick(random, paint.WALL, 14), reflectance=0.35)
    return [wall.stripe(TOP, 0, 1, 0, 1, (190, 186, 178))]


def cabinet(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A switch box, a post box, a kiosk or a bus shelter's back wall."""
    colour = paint.pick(random, paint.VAN, 14)
    body = block((-l / 2, l / 2), (-w / 2, w / 2), (0.0, h), colour)
    for face in (FRONT, BACK, LEFT, RIGHT):
        body.stripe(face, 0.1, 0.9, 0.35, 0.8, paint.pick(random, paint.BUS + (paint.GLASS,)))
    return [body]
