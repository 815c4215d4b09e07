"""Cars, trucks, buses, trailers and construction machines as painted solids.

Every builder takes (random, w, l, h) [m] and returns disjoint solids that fill the box l x w x h and stay INSET inside
it, so that noisy LiDAR returns of the surface are counted as inside, as annotators draw boxes.
"""

from __future__ import annotations

import numpy as np

from bev.data.synthetic import paint
from bev.data.synthetic.shapes import BACK, FRONT, LEFT, RIGHT, TOP, Colour, Solid, block, wheel

Random = np.random.Generator
INSET = 0.04
RIM = 0.07  # how far a wheel's disc stands out of the body [m]


def _wheels(random: Random, xs: list[float], half: float, radius: float, clearance: float) -> list[Solid]:
    """A pair of wheels at each x: discs outside the body's sides, and the tyres' treads below its floor."""
    hub = paint.pick(random, ((150, 150, 155), (90, 92, 96), (200, 200, 205)))
    discs, treads = [], []
    for x in xs:
        for a, b in ((half - RIM, half), (-half, -half + RIM)):
            discs.append(wheel(x, (a, b), radius, paint.RUBBER, hub))
        for a, b in ((half - RIM - 0.2, half - RIM), (-half + RIM, -half + RIM + 0.2)):
            treads.append(
                block((x - radius * 0.55, x + radius * 0.55), (a, b), (0.0, clearance), paint.RUBBER, reflectance=0.1)
            )
    return discs + treads


def _glazing(cabin: Solid, pillars: int = 1) -> Solid:
    """Windows all round a cabin; the sides are divided by pillars."""
    cabin.stripe(FRONT, 0.07, 0.93, 0.12, 0.88, paint.GLASS).stripe(BACK, 0.10, 0.90, 0.22, 0.86, paint.GLASS)
    edges = np.linspace(0.06, 0.94, pillars + 2)
    for side in (LEFT, RIGHT):
        for a, b in zip(edges[:-1], edges[1:]):
            cabin.stripe(side, a + 0.015, b - 0.015, 0.16, 0.86, paint.GLASS)
    return cabin


def _face_lights(body: Solid, low: float, high: float) -> Solid:
    """Head lamps, grille, tail lamps and number plates."""
    for a, b in ((0.04, 0.24), (0.76, 0.96)):
        body.stripe(FRONT, a, b, low, high, paint.LAMP).stripe(BACK, a, b, low, high, paint.TAIL)
    body.stripe(FRONT, 0.30, 0.70, low - 0.25, low + 0.1, paint.DARK)
    return body.stripe(BACK, 0.38, 0.62, low - 0.2, low - 0.02, paint.PLATE)


def car(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """Saloon, hatchback, estate / SUV, van or pickup."""
    kind = random.choice(["saloon", "hatch", "suv", "van", "pickup"], p=[0.34, 0.22, 0.24, 0.1, 0.1])
    colour = paint.pick(random, paint.CAR)
    x, half, floor = l / 2 - INSET, w / 2 - INSET, 0.2
    top = h - INSET
    belt = {"saloon": 0.56, "hatch": 0.54, "suv": 0.56, "van": 0.50, "pickup": 0.56}[kind] * h
    rear, front, slope_r, slope_f = {
        "saloon": (-0.74, 0.36, 0.32, 0.38),
        "hatch": (-0.97, 0.38, 0.14, 0.38),
        "suv": (-0.98, 0.42, 0.06, 0.30),
        "van": (-1.0, 0.70, 0.02, 0.26),
        "pickup": (-0.12, 0.50, 0.05, 0.28),
    }[kind]
    side = half - RIM
    body = _face_lights(block((-x, x), (-side, side), (floor, belt), colour, (-x * 0.985, x * 0.975)), 0.62, 0.88)
    for face in (LEFT, RIGHT):
        body.stripe(face, 0.0, 1.0, 0.0, 0.16, paint.vary(colour, 0.45))
        for u in (0.36, 0.60):
            body.stripe(face, u, u + 0.008, 0.2, 1.0, paint.vary(colour, 0.55))
    cabin = block(
        (rear * x, front * x),
        (-side, side),
        (belt, top),
        colour,
        (rear * x + slope_r * x, (front - slope_f) * x),
        (-side * 0.82, side * 0.82),
    )
    solids = [body, _glazing(cabin, {"suv": 2, "van": 2}.get(str(kind), 1))]
    if kind == "pickup":
        body.stripe(TOP, 0.08, 0.92, 0.02, 0.42, paint.DARK)
    radius = min(0.30 + 0.03 * float(random.random()) + (0.04 if kind in ("suv", "pickup") else 0.0), 0.2 * h)
    return solids + _wheels(random, [-0.62 * x, 0.63 * x], half, radius, floor)


def _cab(random: Random, x: tuple[float, float], side: float, z: tuple[float, float], colour: Colour) -> Solid:
    """A lorry's cab; its screen leans back a little."""
    cab = block(x, (-side, side), z, colour, (x[0], x[1] - 0.12 * (z[1] - z[0])))
    cab.stripe(FRONT, 0.06, 0.94, 0.52, 0.88, paint.GLASS).stripe(FRONT, 0.2, 0.8, 0.16, 0.40, paint.DARK)
    for face, a, b in ((LEFT, 0.18, 0.72), (RIGHT, 0.28, 0.82)):
        cab.stripe(face, a, b, 0.52, 0.86, paint.GLASS)
    for a, b in ((0.03, 0.18), (0.82, 0.97)):
        cab.stripe(FRONT, a, b, 0.08, 0.22, paint.LAMP)
    return cab


def _cargo(
    random: Random, x: tuple[float, float], side: float, z: tuple[float, float], kinds: tuple[str, ...]
) -> list[Solid]:
    """What a lorry or a trailer carries: a box, a container, a curtain side, an open bed or a tipper's tub."""
    kind = str(random.choice(kinds))
    colour = paint.pick(random, paint.VAN)
    height = z[1] - z[0]
    if kind == "bed":
        bed = block(x, (-side, side), (z[0], z[0] + 0.22 * height), paint.STEEL)
        gap = 0.12 * (x[1] - x[0])
        load = block(
            (x[0] + gap, x[1] - gap),
            (-side * 0.8, side * 0.8),
            (z[0] + 0.22 * height, z[1]),
            paint.pick(random, paint.WALL),
            top_y=(-side * 0.7, side * 0.7),
        )
        wall = block((x[1] - 0.1, x[1]), (-side, side), (z[0] + 0.22 * height, z[1]), paint.STEEL)
        return [bed, load, wall]
    if kind == "tub":
        tub = block((x[0] + 0.2, x[1] - 0.1), (-side * 0.85, side * 0.85), z, colour, x, (-side, side))
        for u in np.linspace(0.12, 0.84, 4):
            tub.stripe(LEFT, u, u + 0.04, 0, 1, paint.vary(colour, 0.7)).stripe(
                RIGHT, u, u + 0.04, 0, 1, paint.vary(colour, 0.7)
            )
        return [tub.stripe(TOP, 0.06, 0.94, 0.04, 0.96, (94, 78, 62))]
    box = block(x, (-side, side), z, colour)
    box.stripe(BACK, 0.49, 0.51, 0.03, 0.97, paint.vary(colour, 0.6)).stripe(BACK, 0.02, 0.98, 0.0, 0.05, paint.TAIL)
    if kind == "container":
        for u in np.linspace(0.04, 0.94, 9):
            box.stripe(LEFT, u, u + 0.03, 0.04, 0.96, paint.vary(colour, 0.8)).stripe(
                RIGHT, u, u + 0.03, 0.04, 0.96, paint.vary(colour, 0.8)
            )
    else:
        _weather(random, box, colour)
    if kind == "logo":
        logo, a = paint.pick(random, paint.BUS), float(random.uniform(0.1, 0.35))
        for face in (LEFT, RIGHT):
            box.stripe(face, a, a + 0.45, 0.35, 0.75, logo)
    elif kind == "curtain":
        for face in (LEFT, RIGHT):
            box.stripe(face, 0.02, 0.98, 0.10, 0.94, paint.pick(random, paint.BUS))
    return [box]


def _weather(random: Random, box: Solid, colour: Colour) -> None:
    """Panel joints, a grimy foot and reflecting tape: large plain walls should not be featureless."""
    joints = np.linspace(0, 1, int(random.integers(4, 8)))[1:-1]
    for face in (LEFT, RIGHT):
        for u in joints:
            box.stripe(face, u - 0.004, u + 0.004, 0, 1, paint.vary(colour, 0.78))
        box.stripe(face, 0, 1, 0, float(random.uniform(0.05, 0.14)), paint.vary(np.array(colour) * 0.6 + 20))
        for u in np.arange(0.03, 0.9, 0.16):
            box.stripe(face, u, u + 0.08, 0.015, 0.04, (200, 60, 40))
    box.stripe(TOP, 0, 1, 0, 1, paint.vary(colour, 0.9))


def truck(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A lorry with a cab in front of its cargo."""
    x, half = l / 2 - INSET, w / 2 - INSET
    radius = min(0.48, 0.17 * h)
    floor, deck = radius * 0.7, radius * 1.9
    side, split = half - RIM, x - float(random.uniform(0.24, 0.34)) * l
    top = h - INSET
    kinds = ("box", "logo", "curtain", "container", "bed", "tub")
    cab_top = top * float(random.uniform(0.80, 1.0))
    cab = _cab(random, (split, x), side, (floor, cab_top), paint.pick(random, paint.CAR))
    frame = block((-x, split - 0.12), (-side * 0.9, side * 0.9), (floor, deck), paint.DARK)
    cargo = _cargo(random, (-x, split - 0.12), side, (deck, top), kinds)
    rear = -x + 1.15 * radius + 0.1 * l
    axles = [rear, x - 0.14 * l] + ([rear + 2.3 * radius] if l > 7.5 else [])
    return [cab, frame] + cargo + _wheels(random, axles, half, radius, floor)


def _bus_body(random: Random, body: Solid, colour: Colour, windows: int) -> None:
    """Window rows, doors on the right, a band in a second colour."""
    band = paint.pick(random, paint.BUS)
    for face in (LEFT, RIGHT):
        body.stripe(face, 0.0, 1.0, 0.0, 0.10, paint.vary(colour, 0.5)).stripe(face, 0.0, 1.0, 0.27, 0.36, band)
        edges = np.linspace(0.015, 0.985, windows + 1)
        for a, b in zip(edges[:-1], edges[1:]):
            body.stripe(face, a + 0.006, b - 0.006, 0.46, 0.84, paint.GLASS)
    for u in (0.06, 0.55):
        body.stripe(RIGHT, 1 - u - 0.09, 1 - u, 0.06, 0.84, (70, 80, 90))


def bus(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A city bus: one long body with rows of windows."""
    x, half, floor = l / 2 - INSET, w / 2 - INSET, 0.32
    side, colour = half - RIM, paint.pick(random, paint.BUS)
    body = block((-x, x), (-side, side), (floor, h - INSET), colour, (-x, x - 0.1))
    _bus_body(random, body, colour, int(round(l / 1.5)))
    _bus_ends(body)
    return [body] + _wheels(random, [-0.48 * x, 0.56 * x], half, 0.48, floor)


def _bus_ends(body: Solid, front: bool = True, back: bool = True) -> None:
    if front:
        body.stripe(FRONT, 0.05, 0.95, 0.34, 0.80, paint.GLASS).stripe(FRONT, 0.2, 0.8, 0.84, 0.95, (230, 150, 40))
        body.stripe(FRONT, 0.05, 0.2, 0.10, 0.18, paint.LAMP).stripe(FRONT, 0.8, 0.95, 0.10, 0.18, paint.LAMP)
    if back:
        body.stripe(BACK, 0.12, 0.88, 0.55, 0.85, paint.GLASS).stripe(BACK, 0.2, 0.8, 0.08, 0.34, paint.DARK)
        body.stripe(BACK, 0.03, 0.12, 0.15, 0.4, paint.TAIL).stripe(BACK, 0.88, 0.97, 0.15, 0.4, paint.TAIL)


def bendy_bus(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """Two bus bodies joined by dark bellows (drawn straight)."""
    x, half, floor = l / 2 - INSET, w / 2 - INSET, 0.32
    side, colour, joint = half - RIM, paint.pick(random, paint.BUS), -0.05 * l
    parts = []
    for a, b in ((-x, joint - 0.5), (joint + 0.5, x)):
        body = block((a, b), (-side, side), (floor, h - INSET), colour)
        _bus_body(random, body, colour, int(round((b - a) / 1.5)))
        _bus_ends(body, front=b == x, back=a == -x)
        parts.append(body)
    bellows = block((joint - 0.5, joint + 0.5), (-side * 0.92, side * 0.92), (floor + 0.1, h - 0.2), paint.DARK)
    return parts + [bellows] + _wheels(random, [-0.65 * x, 0.1 * x, 0.72 * x], half, 0.48, floor)


def trailer(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A semi-trailer: no cab, two or three axles at the rear, legs in front."""
    x, half, radius = l / 2 - INSET, w / 2 - INSET, 0.50
    side, floor, deck = half - RIM, 0.4, 1.15
    cargo = _cargo(
        random, (-x, x), side, (deck, h - INSET), ("box", "logo", "curtain", "container", "bed", "container")
    )
    bogie = block((-x + 0.3, -x + 4.1), (-side, side), (floor, deck), paint.DARK)
    keel = block((-x + 4.1, x - 0.6), (-0.5, 0.5), (deck - 0.35, deck), paint.DARK)
    legs = [block((x - 2.9, x - 2.65), (a, a + 0.2), (0.0, deck - 0.35), paint.STEEL) for a in (-0.95, 0.75)]
    axles = [-x + 1.0, -x + 2.2] + ([-x + 3.4] if random.random() < 0.7 else [])
    return cargo + [bogie, keel] + legs + _wheels(random, axles, half, radius, floor)


def excavator(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """Tracks, a turned-forward house with its cab on the left, a boom and a stick with its bucket."""
    x, half, colour = l / 2 - INSET, w / 2 - INSET, paint.pick(random, paint.MACHINE)
    tail, nose, deck, top = -x, -x + 0.55 * l, 0.30 * h, h - INSET
    tracks = [
        block((tail + 0.2, nose + 0.2), y, (0.0, 0.24 * h), paint.DARK).stripe(face, 0.05, 0.95, 0.2, 0.8, (60, 60, 62))
        for y, face in (((half * 0.55, half), LEFT), ((-half, -half * 0.55), RIGHT))
    ]
    house = block((tail, nose - 0.1), (-half * 0.9, half * 0.9), (deck, 0.60 * h), colour)
    house.stripe(BACK, 0.1, 0.9, 0.15, 0.55, paint.DARK).stripe(RIGHT, 0.2, 0.7, 0.3, 0.8, paint.vary(colour, 0.7))
    slew = block((tail + 0.8, nose - 0.6), (-half * 0.4, half * 0.4), (0.24 * h, deck), paint.DARK)
    cab = _glazing(block((nose - 1.35, nose - 0.1), (half * 0.15, half * 0.9), (0.60 * h, 0.93 * h), colour))
    rise = block(
        (nose - 1.3, nose - 0.9), (-half * 0.35, half * 0.05), (0.60 * h, top), colour, (nose + 0.25, nose + 0.75)
    )
    bend = block(
        (nose + 0.76, nose + 1.2), (-half * 0.35, half * 0.05), (0.55 * h, top), colour, (nose + 0.76, nose + 0.95)
    )
    stick = block(
        (x - 0.55, x - 0.15), (-half * 0.3, half * 0.02), (0.22 * h, 0.55 * h), colour, (nose + 0.85, nose + 1.2)
    )
    bucket = block((x - 0.8, x), (-half * 0.5, half * 0.2), (0.0, 0.22 * h), paint.STEEL, (x - 0.6, x))
    return tracks + [slew, house, cab, rise, bend, stick, bucket]


def loader(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """A wheel loader: four big wheels, a cab in the middle, two arms and a wide bucket in front."""
    x, half, colour = l / 2 - INSET, w / 2 - INSET, paint.pick(random, paint.MACHINE)
    radius, floor = 0.21 * h, 0.12 * h
    inner, front = half * 0.62, x - 0.22 * l
    engine = block((-x, -0.05 * l), (-inner, inner), (floor, 0.58 * h), colour, (-x + 0.2, -0.05 * l))
    engine.stripe(BACK, 0.15, 0.85, 0.3, 0.8, paint.DARK)
    cab = _glazing(block((-0.22 * l, 0.05 * l), (-inner * 0.8, inner * 0.8), (0.58 * h, h - INSET), colour))
    hood = block((-0.05 * l, front - 0.05), (-inner * 0.7, inner * 0.7), (floor, 0.5 * h), paint.vary(colour, 0.8))
    arms = [
        block((0.07 * l, 0.07 * l + 0.4), y, (0.50 * h + 0.02, 0.58 * h), colour, reflectance=0.4)
        for y in ((-inner, -inner * 0.75), (inner * 0.75, inner))
    ]
    bucket = block((front, x), (-half, half), (0.02, 0.34 * h), paint.STEEL, (front, front + 0.3))
    wheels = [
        wheel(cx, y, radius, paint.RUBBER, colour)
        for cx in (-0.55 * x, front - 1.1 * radius - 0.02)
        for y in ((inner, half), (-half, -inner))
    ]
    return [engine, cab, hood, bucket] + arms + wheels


def construction(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """An excavator or a wheel loader."""
    return excavator(random, w, l, h) if random.random() < 0.55 else loader(random, w, l, h)
