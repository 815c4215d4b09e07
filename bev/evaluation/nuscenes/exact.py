"""Arithmetic that rounds as the devkit's does, for many boxes at once.

The devkit works on one box at a time through ``np.linalg.norm``, ``np.dot`` and pyquaternion, whose sums of products go
through BLAS and are fused there. The plain formulas differ from it in the last bit in about one case of ten; a batched
``matmul`` calls the same BLAS routine for each item and differs in none.
"""

from __future__ import annotations

import numpy as np

# pyquaternion leaves a quaternion alone whose squared length is this near to 1.
_UNIT_TOLERANCE = 1e-14


def norm(vectors: np.ndarray) -> np.ndarray:
    """(n,) lengths of (n, k) vectors, as ``np.linalg.norm`` of each."""
    vectors = np.ascontiguousarray(vectors)
    return np.sqrt(np.matmul(vectors[:, None, :], vectors[:, :, None])[:, 0, 0])


def rotation_matrices(quaternions: np.ndarray) -> np.ndarray:
    """(n, 3, 3) of (n, 4) quaternions w, x, y, z of any length but 0, as pyquaternion's ``rotation_matrix`` of each.

    The result is a view into (n, 4, 4) products, as pyquaternion's is: its strides decide how BLAS reads it.
    """
    q = np.ascontiguousarray(quaternions, np.float64)
    squared = np.matmul(q[:, None, :], q[:, :, None])[:, 0, 0]
    length = np.where(np.abs(1.0 - squared) < _UNIT_TOLERANCE, 1.0, np.sqrt(squared))
    w, x, y, z = (q / length[:, None]).T
    left = np.stack([w, -x, -y, -z, x, w, -z, y, y, z, w, -x, z, -y, x, w], -1).reshape(-1, 4, 4)
    right = np.stack([w, -x, -y, -z, x, w, z, -y, y, -z, w, x, z, y, -x, w], -1).reshape(-1, 4, 4)
    return np.matmul(left, right.transpose(0, 2, 1))[:, 1:, 1:]


def yaw(quaternions: np.ndarray) -> np.ndarray:
    """(n,) rad: direction of the rotated x axis in the plane, of (n, 4) quaternions."""
    axis = rotation_matrices(quaternions)[:, :2, 0]
    # The devkit multiplies with (1, 0, 0), whose zero terms turn -0.0 into 0.0; arctan2 tells the two apart.
    return np.arctan2(axis[:, 1] + 0.0, axis[:, 0] + 0.0)


def inside_box(center_m: np.ndarray, size_m: np.ndarray, quaternion: np.ndarray, point_m: np.ndarray) -> bool:
    """Whether a point lies in a box or on its faces, as the devkit's ``points_in_box``.

    Args:
        center_m: (3,) of the box.
        size_m: (3,) length, width, height.
        quaternion: (4,) w, x, y, z.
        point_m: (3,).
    """
    signs = np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, -1, 1, 1, -1, -1, 1], [1, 1, -1, -1, 1, 1, -1, -1]])
    corners = np.dot(rotation_matrices(quaternion[None])[0], size_m[:, None] / 2 * signs) + center_m[:, None]
    first = corners[:, 0]
    offset = (point_m - first)[:, None]
    for corner in (4, 1, 3):
        edge = corners[:, corner] - first
        along = np.dot(edge, offset)[0]
        if not 0 <= along <= np.dot(edge, edge):
            return False
    return True
