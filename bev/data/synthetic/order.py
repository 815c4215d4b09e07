"""Back-to-front order of the bodies in a camera's view.

Two bodies that stand apart on the ground are separated by a side of one of their rectangles; the one on the camera's
side of that line can hide the other and never the reverse. The order respects every such pair that overlaps on screen.
"""

from __future__ import annotations

import numpy as np


def rectangle_sides(low: np.ndarray, high: np.ndarray, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ground rectangles of bodies.

    Args:
        low, high: (n, 3) [m] extents in the bodies' frames.
        poses: (n, 3) x, y [m], heading [rad].

    Returns:
        corners (n, 4, 2), outward unit normals of the sides (n, 4, 2) and the sides' offsets (n, 4) [m].
    """
    c, s = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    axes = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], 1)
    x = np.stack([high[:, 0], low[:, 0], low[:, 0], high[:, 0]], 1)
    y = np.stack([high[:, 1], high[:, 1], low[:, 1], low[:, 1]], 1)
    corners = poses[:, None, :2] + x[..., None] * axes[:, None, 0] + y[..., None] * axes[:, None, 1]
    normals = np.concatenate([axes, -axes], 1)
    reach = np.stack([high[:, 0], high[:, 1], -low[:, 0], -low[:, 1]], 1)
    return corners, normals, reach + np.einsum("nkc,nc->nk", normals, poses[:, :2])


def hides(corners: np.ndarray, normals: np.ndarray, offsets: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """(n, n) bool: entry (i, j) says that i may hide j from the eye (2,) [m] (as `rectangle_sides` gives them)."""
    reach = np.einsum("ikc,jmc->mikj", normals, corners).min(0)
    separates = reach - offsets[:, :, None] >= -1e-3  # side k of i has all of j on its outer side
    outside = (np.einsum("ikc,c->ik", normals, eye) - offsets >= 0)[:, :, None]
    j_cannot_hide_i = (separates & ~outside).any(1)  # the eye is on i's side
    i_cannot_hide_j = (separates & outside).any(1)
    cannot_hide = i_cannot_hide_j | j_cannot_hide_i.T
    return ~cannot_hide & ~np.eye(len(corners), dtype=bool)


def back_to_front(may_hide: np.ndarray, overlap: np.ndarray, distance: np.ndarray) -> list[int]:
    """Painting order of n bodies.

    Args:
        may_hide: (n, n) from `hides`. overlap: (n, n) bool, whether two bodies overlap on the screen.
        distance: (n,) [m] from the eye; it orders the unrelated, and bodies that hide one another in a ring.
    """
    before = may_hide.T & overlap  # before[i, j]: i is hidden by j and must be painted first
    before &= ~(before & before.T & (distance[:, None] < distance[None, :]))
    waiting = before.sum(0).astype(np.int64)
    key = distance.copy()
    order: list[int] = []
    for _ in range(len(distance)):
        free = np.where(waiting == 0, key, -1.0)
        chosen = int(free.argmax())
        if free[chosen] < 0:
            chosen = int(key.argmax())
        order.append(chosen)
        key[chosen] = -2.0
        waiting -= before[chosen]
    return order
