"""Convex solids with painted faces, and their compilation into arrays for the renderer and the ray caster.

A body is made of *disjoint convex solids*. Two facts make a painter's algorithm exact on them: the faces of one convex
solid that look at the eye never hide one another, and solids that a sequence of axis-aligned cuts separates (a BSP)
have an exact back-to-front order from every eye. `compile_mesh` finds those cuts or refuses the body.

Frame of a body: x forward, y left, z up, origin on the ground below the centre of its box. Units: metres.
"""

from __future__ import annotations

import dataclasses
from typing import Union

import numpy as np

Colour = tuple[float, float, float]  # RGB, 0 to 255
MAX_CORNERS = 8
MAX_PLANES = 10
LEFT, BACK, RIGHT, FRONT, TOP = 0, 1, 2, 3, 9  # faces of a block


@dataclasses.dataclass
class Solid:
    """A convex ring solid: two parallel polygons of K corners (4 or 8), joined by K flat sides.

    Attributes:
        rings: (2, K, 3) corners [m], counter-clockwise seen from the second ring's outer side.
        colour: paint of all faces.
        reflectance: LiDAR reflectance, 0 to 1.
        paint: polygons painted on faces: (face, (n, 3) corners [m], colour), in painting order. Face k < K is the side
            between corners k and k + 1, TOP the second ring.
    """

    rings: np.ndarray
    colour: Colour
    reflectance: float = 0.3
    paint: list[tuple[int, np.ndarray, Colour]] = dataclasses.field(default_factory=list)

    def stripe(self, face: int, u0: float, u1: float, v0: float, v1: float, colour: Colour) -> "Solid":
        """Paint the part u0..u1 (along), v0..v1 (upwards; both 0 to 1) of a side, or of the top of a block.

        Seen from outside, u runs from the face's left to its right edge; on the top, u runs from the left side to the
        right and v from back to front.
        """
        low, high = self.rings
        if face == TOP:
            a, b, c, d = high[1], high[2], high[3], high[0]
        else:
            k, n = face, (face + 1) % len(low)
            a, b, c, d = low[k], low[n], high[n], high[k]
        uv = np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]])
        u, v = uv[:, :1], uv[:, 1:]
        self.paint.append((face, (a * (1 - u) + b * u) * (1 - v) + (d * (1 - u) + c * u) * v, colour))
        return self


def block(
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    colour: Colour,
    top_x: tuple[float, float] | None = None,
    top_y: tuple[float, float] | None = None,
    reflectance: float = 0.3,
) -> Solid:
    """A box, or with ``top_x`` / ``top_y`` a box with another rectangle on top (wind screens, roofs). Ranges [m]."""

    def ring(xs: tuple[float, float], ys: tuple[float, float], height: float) -> list[list[float]]:
        return [[xs[1], ys[1], height], [xs[0], ys[1], height], [xs[0], ys[0], height], [xs[1], ys[0], height]]

    rings = np.array([ring(x, y, z[0]), ring(top_x or x, top_y or y, z[1])])
    return Solid(rings, colour, reflectance)


def column(
    centre: tuple[float, float],
    z: tuple[float, float],
    radius: tuple[float, float],
    colour: Colour,
    stretch: float = 1.0,
    reflectance: float = 0.3,
) -> Solid:
    """An upright eight-sided column or cone: radii [m] at the bottom and at the top; ``stretch`` widens it along y."""
    angle = np.pi / 8 + np.arange(8) * np.pi / 4
    unit = np.stack([np.cos(angle), np.sin(angle) * stretch], 1)
    rings = [np.column_stack([unit * r + np.array(centre), np.full(8, h)]) for r, h in zip(radius, z)]
    return Solid(np.array(rings), colour, reflectance)


def wheel(
    x: float, y: tuple[float, float], radius: float, colour: Colour = (28, 28, 30), hub: Colour = (150, 150, 155)
) -> Solid:
    """An eight-sided wheel with its axle along y at (x, radius): its lowest flat stands on the ground."""
    angle = np.pi / 8 - np.arange(8) * np.pi / 4
    reach = radius / np.cos(np.pi / 8)
    flat = np.stack([x + np.cos(angle) * reach, radius + np.sin(angle) * reach], 1)
    rings = np.stack([np.column_stack([flat[:, 0], np.full(8, h), flat[:, 1]]) for h in y])
    solid = Solid(rings, colour, 0.1)
    middle = np.array([x, 0.0, radius])
    for face, ring in ((8, rings[0][::-1]), (9, rings[1])):
        solid.paint.append((face, (ring - middle) * [0.55, 1, 0.55] + middle, hub))
    return solid


@dataclasses.dataclass(frozen=True)
class Cut:
    """Inner node of a BSP: solids with all corners below ``at`` on ``axis`` are in ``low``, the others in ``high``."""

    axis: int
    at: float
    low: "Tree"
    high: "Tree"


Tree = Union[Cut, int]


@dataclasses.dataclass(frozen=True)
class Mesh:
    """A compiled body of P solids, F faces (painted polygons count as faces) and V corners.

    Attributes:
        corners: (V, 3) [m]. faces: (F, 8) corner indices, padded by repeating the last one. face_size: (F,).
        normals: (F, 3) outward unit; offsets: (F,) [m], normal . x on the face. colours: (F, 3) RGB.
        face_solid: (F,) index of the solid, ascending.
        planes: (P, 10, 4) outward unit normals and offsets, padded by planes that hold everything.
        bounds: (P, 2, 3) [m] lowest and highest corner of each solid. reflectance: (P,).
        tree: the BSP of the solids.
    """

    corners: np.ndarray
    faces: np.ndarray
    face_size: np.ndarray
    normals: np.ndarray
    offsets: np.ndarray
    colours: np.ndarray
    face_solid: np.ndarray
    planes: np.ndarray
    bounds: np.ndarray
    reflectance: np.ndarray
    tree: Tree

    @property
    def extent(self) -> np.ndarray:
        """(2, 3) [m] lowest and highest corner of the body."""
        return np.stack([self.bounds[:, 0].min(0), self.bounds[:, 1].max(0)])


def _solid_faces(solid: Solid) -> list[tuple[np.ndarray, Colour, int]]:
    """All polygons of a solid with their colours and the face that each lies on, faces before their paint."""
    low, high = solid.rings
    sides = [
        np.array([low[k], low[n], high[n], high[k]]) for k, n in zip(range(len(low)), list(range(1, len(low))) + [0])
    ]
    loops = dict(enumerate(sides)) | {8: low[::-1], TOP: high}
    base = [(loop, solid.colour, face) for face, loop in loops.items()]
    return base + [(np.asarray(loop), colour, face) for face, loop, colour in solid.paint]


def _normals(loops: np.ndarray) -> np.ndarray:
    """Newell's normals (F, 3) of flat polygons (F, n, 3): right also where the last corner is repeated."""
    following = np.roll(loops, -1, axis=1)
    x, y, z = np.moveaxis(loops, -1, 0)
    u, v, w = np.moveaxis(following, -1, 0)
    area = np.stack([(y * w - z * v).sum(1), (z * u - x * w).sum(1), (x * v - y * u).sum(1)], 1)
    length = np.linalg.norm(area, axis=1, keepdims=True)
    return np.where(length > 1e-9, area / np.maximum(length, 1e-9), [0.0, 0.0, 1.0])


def build_tree(bounds: np.ndarray, members: np.ndarray | None = None) -> Tree:
    """BSP of solids by axis-aligned cuts that split none of them.

    Args:
        bounds: (P, 2, 3) [m] lowest and highest corner of each solid.
        members: indices of the solids to separate; all if None.

    Raises:
        ValueError: no cut separates the solids.
    """
    members = np.arange(len(bounds)) if members is None else members
    if len(members) == 1:
        return int(members[0])
    for axis in (2, 0, 1):
        for at in np.unique(bounds[members, 1, axis])[:-1]:
            below = bounds[members, 1, axis] <= at + 1e-9
            if np.all(bounds[members[~below], 0, axis] >= at - 1e-6):
                return Cut(axis, float(at), build_tree(bounds, members[below]), build_tree(bounds, members[~below]))
    raise ValueError(
        f"no axis-aligned cut separates the solids {members.tolist()} of a body; "
        f"their bounds are {bounds[members].round(3).tolist()}"
    )


def back_to_front(tree: Tree, eye: tuple[float, float, float]) -> list[int]:
    """Indices of a BSP's solids, the hidden ones first. ``eye``: [m] in the body's frame."""
    if isinstance(tree, int):
        return [tree]
    low, high = back_to_front(tree.low, eye), back_to_front(tree.high, eye)
    return low + high if eye[tree.axis] > tree.at else high + low


def compile_mesh(solids: list[Solid]) -> Mesh:
    """Arrays of a body made of disjoint solids.

    Raises:
        ValueError: the body has no solids, or no sequence of axis-aligned cuts separates them.
    """
    if not solids:
        raise ValueError("a body needs at least one solid")
    loops = [face for solid in solids for face in _solid_faces(solid)]
    owner = np.repeat(np.arange(len(solids)), [len(s.rings[0]) + 2 + len(s.paint) for s in solids])
    size = np.array([len(loop) for loop, _, _ in loops])
    columns = np.minimum(np.arange(MAX_CORNERS), size[:, None] - 1)
    faces = columns + (np.cumsum(size) - size)[:, None]
    corners = np.concatenate([loop for loop, _, _ in loops])
    normals = _normals(corners[faces])
    offsets = np.einsum("fk,fk->f", corners[faces[:, 0]], normals)
    planes = np.tile(np.array([0.0, 0.0, 0.0, 1.0]), (len(solids), MAX_PLANES, 1))
    first = 0
    for index, solid in enumerate(solids):
        sides = len(solid.rings[0]) + 2
        own = normals[first : first + sides]
        planes[index, :sides] = np.column_stack([own, (own @ solid.rings.reshape(-1, 3).T).max(1)])
        first += sides + len(solid.paint)
    bounds = np.array([[s.rings.min((0, 1)), s.rings.max((0, 1))] for s in solids])
    return Mesh(
        corners.astype(np.float32),
        faces.astype(np.int32),
        size.astype(np.int32),
        normals.astype(np.float32),
        offsets.astype(np.float32),
        np.array([colour for _, colour, _ in loops], np.float32),
        owner.astype(np.int32),
        planes.astype(np.float32),
        bounds.astype(np.float32),
        np.array([s.reflectance for s in solids], np.float32),
        build_tree(bounds),
    )
