"""A scene flattened into one mesh for the view from straight above.

One mesh, because a software Vulkan driver draws a single mesh a hundred times faster than points and meshes mixed; what
is seen edge-on is left out, and points become squares.
"""

from __future__ import annotations

import numpy as np

from bev.viz.scene import Array, Mesh, Points, Scene, join

# With parallel rays, lifting a layer over the one before changes nothing but the order. m; more than boxes are high.
LAYER_STEP_M = 200.0
# Side of a point's square as a part of the range: one pixel of a picture of 700 px.
_POINT = 2 / 700
_MIN_AREA_M2 = 1e-6


def top_mesh(scene: Scene) -> Mesh:
    """All layers as one mesh, each ``LAYER_STEP_M`` over the one before; x and y in the reference frame, m."""
    parts = []
    for i, layer in enumerate(scene.layers):
        side_m = scene.range_m * _POINT
        mesh = squares(layer.shape, side_m) if isinstance(layer.shape, Points) else _faces_seen(layer.shape)
        parts.append(Mesh(mesh.xyz_m + [0.0, 0.0, i * LAYER_STEP_M], mesh.color, mesh.triangles))
    return join(parts)


def squares(points: Points, side_m: float) -> Mesh:
    """P points -> P horizontal squares around them."""
    count, half = len(points.xyz_m), side_m / 2
    corners = np.array([[-half, -half, 0], [half, -half, 0], [half, half, 0], [-half, half, 0]])
    triangles = 4 * np.arange(count)[:, None, None] + np.array([[0, 1, 2], [0, 2, 3]])
    return Mesh(
        (points.xyz_m[:, None] + corners).reshape(-1, 3),
        np.repeat(points.color, 4, axis=0),
        triangles.reshape(-1, 3).astype(np.int32),
    )


def _faces_seen(mesh: Mesh) -> Mesh:
    corners: Array = mesh.xyz_m[mesh.triangles][..., :2]
    (ax, ay), (bx, by) = (corners[:, i].T - corners[:, 0].T for i in (1, 2))
    return Mesh(mesh.xyz_m, mesh.color, mesh.triangles[np.abs(ax * by - ay * bx) / 2 > _MIN_AREA_M2])
