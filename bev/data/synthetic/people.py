"""Pedestrians, bicycles and motorcycles as painted solids (builders as in vehicles.py)."""

from __future__ import annotations

import numpy as np

from bev.data.synthetic import paint
from bev.data.synthetic.shapes import BACK, FRONT, LEFT, RIGHT, Colour, Solid, block, column, wheel

Random = np.random.Generator
INSET = 0.03


def _head(random: Random, x: float, z: tuple[float, float], hat: Colour | None = None) -> list[Solid]:
    """A head with hair, or with a hat or helmet."""
    size, skin = (z[1] - z[0]) * 0.42, paint.pick(random, paint.SKIN)
    crown = z[0] + 0.62 * (z[1] - z[0])
    top = hat or paint.pick(random, paint.HAIR)
    return [
        column((x, 0.0), (z[0], crown), (size * 0.8, size), skin),
        column((x, 0.0), (crown, z[1]), (size * 1.08, size * 0.7), top),
    ]


def _legs(x: tuple[float, float], width: float, z: tuple[float, float], colour: Colour, stride: float) -> list[Solid]:
    """Two legs; ``stride`` moves each foot along x [m]."""
    legs = []
    for side, step in ((1, stride), (-1, -stride)):
        y = (0.015, width) if side > 0 else (-width, -0.015)
        legs.append(block((x[0] + step, x[1] + step), y, (z[0], z[1]), colour, x, reflectance=0.25))
        legs[-1].stripe(FRONT, 0, 1, 0, 0.10, paint.DARK).stripe(BACK, 0, 1, 0, 0.10, paint.DARK)
        legs[-1].stripe(LEFT, 0, 1, 0, 0.10, paint.DARK).stripe(RIGHT, 0, 1, 0, 0.10, paint.DARK)
    return legs


def _torso(
    random: Random,
    x: tuple[float, float],
    width: float,
    z: tuple[float, float],
    colour: Colour,
    vest: bool = False,
    swing: float = 0.0,
) -> list[Solid]:
    """Trunk and two arms that swing along x [m]; a vest has bright bands."""
    core = width * 0.70
    trunk = block(x, (-core * 0.85, core * 0.85), z, colour, top_y=(-core, core), reflectance=0.3)
    if vest:
        for face in (FRONT, BACK, LEFT, RIGHT):
            trunk.stripe(face, 0, 1, 0.30, 0.40, (225, 228, 210)).stripe(face, 0, 1, 0.60, 0.70, (225, 228, 210))
    sleeve, hand = paint.vary(colour, 0.85), (x[0] * 0.5 + x[1] * 0.5)
    arms = []
    for side in (1, -1):
        y = (core, width) if side > 0 else (-width, -core)
        low = (hand - 0.05 - side * swing, hand + 0.05 - side * swing)
        arms.append(block(low, y, (z[0] + 0.02, z[1]), sleeve, (hand - 0.06, hand + 0.06)))
    return [trunk] + arms


def _walker(
    random: Random,
    w: float,
    l: float,
    h: float,
    cloth: Colour,
    trousers: Colour,
    stride: float,
    hat: Colour | None,
    vest: bool,
) -> list[Solid]:
    half, reach = w / 2 - INSET, l / 2 - INSET
    depth = float(np.clip(0.6 * reach, 0.08, 0.18))
    hip, neck = 0.47 * h, 0.84 * h
    step = stride * (reach - depth)
    solids = _legs((-depth * 0.9, depth * 0.9), half * 0.55, (0.0, hip), trousers, step)
    solids += _torso(random, (-depth, depth), half, (hip, neck), cloth, vest, min(step, reach - 0.07))
    if random.random() < 0.3 and not vest and reach - depth > 0.1:
        solids.append(
            block(
                (-min(reach, depth + 0.2), -depth),
                (-half * 0.5, half * 0.5),
                (0.56 * h, 0.82 * h),
                paint.pick(random, paint.CLOTH),
            )
        )
    return solids + _head(random, 0.0, (neck, h - INSET), hat)


def pedestrian(random: Random, w: float, l: float, h: float, stride: float = 0.3) -> list[Solid]:
    """An adult or child; ``stride`` is the share of the box's length that the feet use, near 1 for one who walks."""
    return _walker(
        random, w, l, h, paint.pick(random, paint.CLOTH), paint.pick(random, paint.CLOTH), stride, None, False
    )


def worker(random: Random, w: float, l: float, h: float, stride: float = 0.3) -> list[Solid]:
    """A construction worker with vest and helmet."""
    return _walker(
        random,
        w,
        l,
        h,
        paint.pick(random, paint.SAFETY),
        paint.pick(random, ((40, 44, 60), (70, 66, 60))),
        stride,
        paint.pick(random, ((240, 200, 40), (235, 235, 235), (60, 110, 190))),
        True,
    )


def police(random: Random, w: float, l: float, h: float, stride: float = 0.3) -> list[Solid]:
    """A police officer in navy blue with a cap."""
    return _walker(
        random,
        w,
        l,
        h,
        paint.pick(random, ((30, 40, 78), (38, 48, 96))),
        (24, 28, 44),
        stride,
        (24, 28, 52),
        random.random() < 0.4,
    )


def sitter(random: Random, w: float, l: float, h: float) -> list[Solid]:
    """Somebody who sits on a stool: thighs forward."""
    half, x = w / 2 - INSET, l / 2 - INSET
    seat, neck, trousers = 0.36 * h, 0.78 * h, paint.pick(random, paint.CLOTH)
    stool = block((-x, x * 0.2), (-half * 0.8, half * 0.8), (0.0, seat), (112, 84, 56))
    thighs = block((-x * 0.2, x), (-half * 0.6, half * 0.6), (seat, seat + 0.14), trousers)
    shins = block((x * 0.55, x), (-half * 0.55, half * 0.55), (0.0, seat), trousers)
    trunk = _torso(random, (-x, -x * 0.2), half, (seat, neck), paint.pick(random, paint.CLOTH))
    return [stool, thighs, shins] + trunk + _head(random, -x * 0.6, (neck, h - INSET))


def _rider(
    random: Random, x: tuple[float, float], half: float, seat: float, top: float, front: float, helmet: bool
) -> list[Solid]:
    """A trunk that leans forward, not beyond ``front`` [m], and a head."""
    cloth, neck = paint.pick(random, paint.CLOTH), seat + 0.70 * (top - seat)
    lean = min(x[0] + 0.30, front - 0.25)
    trunk = block(x, (-half * 0.5, half * 0.5), (seat, neck), cloth, (lean, lean + 0.24), (-half * 0.62, half * 0.62))
    hat = paint.pick(random, paint.CAR) if helmet else None
    return [trunk] + _head(random, lean + 0.12, (neck, top), hat)


def _rider_legs(random: Random, x: float, inner: float, half: float, z: tuple[float, float]) -> list[Solid]:
    colour = paint.pick(random, paint.CLOTH)
    return [block((x - 0.02, x + 0.14), y, z, colour, (x - 0.16, x + 0.06)) for y in ((inner, half), (-half, -inner))]


def motorcycle(random: Random, w: float, l: float, h: float, rider: bool = False) -> list[Solid]:
    """Two thick wheels, engine, tank and seat, a fork with the handlebar; or a scooter with a shield."""
    x, half, colour = l / 2 - INSET, w / 2 - INSET, paint.pick(random, paint.CAR)
    scooter = random.random() < 0.35
    radius = 0.25 if scooter else 0.32
    seat = min(0.80, 0.70 * h) if not rider else 0.80
    wheels = [wheel(cx, (-0.07, 0.07), radius, paint.RUBBER, (110, 112, 116)) for cx in (-x + radius, x - radius)]
    a, b = -x + 2 * radius + 0.02, x - 2 * radius - 0.02
    engine = block((a, b), (-0.14, 0.14), (0.14, 0.62 * seat), paint.STEEL if not scooter else colour)
    rear = block((-x * 0.92, a), (-0.12, 0.12), (2 * radius + 0.01, seat), colour, (-x, a))
    tank = block((a, b), (-0.16, 0.16), (0.62 * seat, seat), colour).stripe(LEFT, 0, 1, 0.4, 0.55, (230, 230, 230))
    tank.stripe(RIGHT, 0, 1, 0.4, 0.55, (230, 230, 230))
    bar_top = (h - INSET) if not rider else seat + 0.28
    fork = block((b, b + 0.22), (-0.10, 0.10), (2 * radius + 0.01, bar_top - 0.06), colour if scooter else paint.DARK)
    fork.stripe(FRONT, 0.1, 0.9, 0.5, 0.9, paint.LAMP)
    bar = block((b, b + 0.08), (-half, half), (bar_top - 0.06, bar_top), paint.DARK)
    solids = wheels + [engine, rear, tank, fork, bar]
    if not rider:
        return solids
    legs = _rider_legs(random, 0.0, 0.17, min(0.3, half), (0.3, seat))
    return solids + legs + _rider(random, (a - 0.1, b - 0.25), half, seat, h - INSET, b, helmet=True)


def bicycle(random: Random, w: float, l: float, h: float, rider: bool = False) -> list[Solid]:
    """Two thin wheels, a thin frame, saddle and handlebar."""
    x, half, colour = l / 2 - INSET, w / 2 - INSET, paint.pick(random, paint.CAR)
    radius = 0.31
    seat = 0.88 if rider else max(0.80, 0.78 * h)
    grey = (138, 140, 142)
    wheels = [wheel(cx, (-0.025, 0.025), radius, paint.RUBBER, grey) for cx in (-x + radius, x - radius)]
    a, b = -x + 2 * radius, x - 2 * radius
    down = block((a, a + 0.08), (-0.03, 0.03), (0.26, 0.60), colour, (b - 0.08, b))
    tube = block((a - 0.2, b), (-0.03, 0.03), (0.64, 0.70), colour)
    post = block((a - 0.08, a - 0.02), (-0.03, 0.03), (0.70, seat - 0.06), colour)
    saddle = block((a - 0.2, a + 0.08), (-0.08, 0.08), (seat - 0.06, seat), paint.DARK)
    bar_top = h - INSET if not rider else seat + 0.16
    fork = block((b, b + 0.06), (-0.03, 0.03), (0.64, bar_top - 0.05), colour)
    bar = block((b, b + 0.07), (-half, half), (bar_top - 0.05, bar_top), paint.DARK)
    solids = wheels + [down, tube, post, saddle, fork, bar]
    if not rider:
        return solids
    legs = _rider_legs(random, min(a + 0.1, b - 0.15), 0.09, min(0.24, half), (0.12, seat - 0.07))
    return solids + legs + _rider(random, (a - 0.2, a + 0.04), half, seat, h - INSET, b, helmet=random.random() < 0.6)
