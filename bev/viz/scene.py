"""What a three-dimensional picture is made of, free of any renderer.

Only points and flat-coloured triangles: whatever draws them (Open3D now) needs no materials and no lights, and the
colours come out as they were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bev.viz.palette import Color

Array = NDArray[np.float64]

# Faces of a hexahedron with the corner order of Boxes3D.corners_m: bottom, top, then the four sides.
_FACES = np.array(
    [[0, 1, 2], [0, 2, 3], [4, 6, 5], [4, 7, 6]]
    + [[i, (i + 1) % 4 + offset, (i + (1 - offset // 4)) % 4 + 4] for i in range(4) for offset in (0, 4)]
)


@dataclass(frozen=True, eq=False)
class Points:
    """P points.

    Attributes:
        xyz_m: (P, 3).
        color: (P, 3) uint8 sRGB.
    """

    xyz_m: Array
    color: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Mesh:
    """T triangles over V vertices.

    Attributes:
        xyz_m: (V, 3).
        color: (V, 3) uint8 sRGB.
        triangles: (T, 3) int32 vertex numbers.
    """

    xyz_m: Array
    color: NDArray[np.uint8]
    triangles: NDArray[np.int32]


@dataclass(frozen=True)
class Layer:
    """Things that are shown and hidden together; later layers of a scene lie over earlier ones when seen from above."""

    name: str
    shape: Points | Mesh


@dataclass(frozen=True)
class Label:
    """Text at a place of the scene, m."""

    text: str
    xyz_m: tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """Where a perspective picture is taken from, m, in the reference frame; ``fov_rad`` is the vertical angle."""

    eye_m: tuple[float, float, float]
    target_m: tuple[float, float, float]
    fov_rad: float


@dataclass(frozen=True)
class Scene:
    """One frame in its reference frame.

    Attributes:
        layers: from the ground up.
        labels: written over everything.
        up_xy: direction of the reference frame that points up in the bird's-eye view (forward).
        range_m: what lies farther to any side is not shown.
        camera: of the perspective view; None: straight from above.
    """

    layers: tuple[Layer, ...]
    labels: tuple[Label, ...]
    up_xy: tuple[float, float]
    range_m: float
    camera: Camera | None = None


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several (or of none)."""
    starts = np.cumsum([0] + [len(m.xyz_m) for m in meshes])
    return Mesh(
        np.concatenate([np.zeros((0, 3)), *(m.xyz_m for m in meshes)]),
        np.concatenate([np.zeros((0, 3), np.uint8), *(m.color for m in meshes)]),
        np.concatenate([np.zeros((0, 3), np.int32), *(m.triangles + start for m, start in zip(meshes, starts))]).astype(
            np.int32
        ),
    )


def hexahedra(corners_m: Array, color: Color, bottom_color: Color | None = None) -> Mesh:
    """Solid six-sided bodies.

    Args:
        corners_m: (K, 8, 3) in the order of ``Boxes3D.corners_m``; need not be rectangular.
        bottom_color: of the four lower corners, for a shade from bottom to top; default: ``color``.
    """
    count = len(corners_m)
    one = np.array([bottom_color or color] * 4 + [color] * 4, np.uint8)
    triangles = (_FACES[None] + 8 * np.arange(count)[:, None, None]).reshape(-1, 3)
    return Mesh(corners_m.reshape(-1, 3), np.tile(one, (count, 1)), triangles.astype(np.int32))


def beams(start_m: Array, end_m: Array, width_m: float, color: Color) -> Mesh:
    """(K, 3) and (K, 3) ends -> square beams, lengthened by half their width so that corners close."""
    along = end_m - start_m
    along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-9)
    upright = np.abs(along[:, 2:]) > 0.9
    side = np.cross(along, np.where(upright, [[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]))
    side *= width_m / 2 / np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-9)
    rise = np.cross(side, along)
    front, back = end_m + along * width_m / 2, start_m - along * width_m / 2
    ring = [front + side, front - side, back - side, back + side]
    corners = np.stack([*(c - rise for c in ring), *(c + rise for c in ring)], 1)
    return hexahedra(corners, color)


def triangles(corners_m: Array, color: Color) -> Mesh:
    """(K, 3, 3) corners -> flat triangles."""
    flat = corners_m.reshape(-1, 3)
    return Mesh(
        flat, np.tile(np.array(color, np.uint8), (len(flat), 1)), np.arange(len(flat), dtype=np.int32).reshape(-1, 3)
    )


def carpet(
    color: NDArray[np.uint8], shown: NDArray[np.bool_], x_m: tuple[float, float], y_m: tuple[float, float], z_m: float
) -> Mesh:
    """A picture on the ground; neighbours of one colour in a row become one rectangle.

    Args:
        color: (Y, X, 3) uint8 sRGB.
        shown: (Y, X) bool.
        x_m, y_m: (low, high) of its edges.
        z_m: height.
    """
    rows, columns = shown.shape
    code = np.where(shown, color.astype(np.int64) @ [1 << 16, 1 << 8, 1], -1)
    starts = np.concatenate([np.ones((rows, 1), bool), code[:, 1:] != code[:, :-1]], 1)
    row, first = np.nonzero(starts)
    last = np.append(np.where(np.diff(row) == 0, first[1:], columns), columns)[: len(first)]
    kept = code[row, first] >= 0
    row, first, last = row[kept], first[kept], last[kept]
    x = [x_m[0] + (x_m[1] - x_m[0]) * c / columns for c in (first, last)]
    y = [y_m[0] + (y_m[1] - y_m[0]) * r / rows for r in (row, row + 1)]
    corners = [np.stack([x[i], y[j], np.full(len(row), z_m)], -1) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
    faces = (np.array([[0, 1, 2], [0, 2, 3]]) + 4 * np.arange(len(row))[:, None, None]).reshape(-1, 3)
    return Mesh(np.stack(corners, 1).reshape(-1, 3), np.repeat(color[row, first], 4, 0), faces.astype(np.int32))


def ring(radius_m: float, height_m: float, width_m: float, color: Color, steps: int = 180) -> Mesh:
    """A flat ring around the origin."""
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    xy = np.concatenate([circle * (radius_m - width_m / 2), circle * (radius_m + width_m / 2)])
    a = np.arange(steps)
    b = (a + 1) % steps
    faces = np.concatenate([np.stack([a, a + steps, b + steps], -1), np.stack([a, b + steps, b], -1)])
    xyz = np.concatenate([xy, np.full((len(xy), 1), height_m)], -1)
    return Mesh(xyz, np.tile(np.array(color, np.uint8), (len(xyz), 1)), faces.astype(np.int32))
