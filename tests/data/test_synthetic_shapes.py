"""Bodies of the synthetic world: they fill their boxes, stand on the ground, and have an exact painting order."""

from __future__ import annotations

import numpy as np
import pytest

from bev.data.synthetic import order
from bev.data.synthetic.population import BUILDERS, discs
from bev.data.synthetic.shapes import FRONT, TOP, Mesh, back_to_front, block, build_tree, column, compile_mesh, wheel
from bev.data.synthetic.taxonomy import SIZES

RED, BLUE = (200.0, 20.0, 20.0), (20.0, 20.0, 200.0)


def meshes(category: str, count: int = 40) -> list[tuple[np.ndarray, Mesh]]:
    found = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        look, size = {}, SIZES[category].draw(random)
        if category in ("vehicle.bicycle", "vehicle.motorcycle"):
            look["rider"] = bool(seed % 2)
            size[2] += 0.22 if seed % 2 else -0.12
        if category.startswith("human"):
            look["stride"] = (0.4, 0.9)[seed % 2]
            size[1] *= (0.78, 1.05)[seed % 2]
        w, l, h = size
        found.append((size, compile_mesh(BUILDERS[category](random, w, l, h, **look))))
    return found


@pytest.mark.parametrize("category", BUILDERS)
def test_bodies_fill_their_boxes_and_stand_on_the_ground(category: str) -> None:
    for size, mesh in meshes(category):
        half, extent = np.array([size[1] / 2, size[0] / 2]), mesh.extent
        assert (extent[1, :2] <= half + 1e-5).all() and (extent[0, :2] >= -half - 1e-5).all()
        assert extent[1, 2] <= size[2] + 1e-5 and abs(extent[0, 2]) < 1e-6
        # Boxes are tight; the loosest are people who stand with their feet together.
        assert (extent[1] - extent[0] >= 0.55 * np.array([size[1], size[0], size[2]])).all(), (category, size, extent)


@pytest.mark.parametrize("category", BUILDERS)
def test_solids_are_convex_closed_and_disjoint(category: str) -> None:
    for _, mesh in meshes(category, 12):
        for k, planes in enumerate(mesh.planes):
            corners = mesh.corners[np.unique(mesh.faces[mesh.face_solid == k])]
            assert (corners @ planes[:, :3].T <= planes[:, 3] + 1e-4).all()
        low, high = mesh.bounds[:, 0], mesh.bounds[:, 1]
        shared = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
        overlapping = (shared > 1e-5).all(2) & ~np.eye(len(low), dtype=bool)
        assert not overlapping.any()


def test_classes_vary_in_shape_and_colour() -> None:
    for category in (
        "vehicle.car",
        "vehicle.truck",
        "vehicle.trailer",
        "movable_object.barrier",
        "vehicle.construction",
    ):
        found = [mesh for _, mesh in meshes(category, 30)]
        assert len({len(mesh.faces) for mesh in found}) >= 2
        assert np.std([mesh.colours[0] for mesh in found], axis=0).mean() > 12


def test_painting_order_is_right_from_every_side() -> None:
    solids = [
        block((0, 1), (0, 1), (0, 1), RED),
        block((1, 2), (0, 1), (0, 1), BLUE),
        column((0.5, 0.5), (1, 2), (0.4, 0.2), RED),
    ]
    tree = compile_mesh(solids).tree
    assert back_to_front(tree, (5.0, 0.5, 0.5)).index(1) > back_to_front(tree, (5.0, 0.5, 0.5)).index(0)
    assert back_to_front(tree, (-5.0, 0.5, 0.5)).index(0) > back_to_front(tree, (-5.0, 0.5, 0.5)).index(1)
    assert back_to_front(tree, (0.5, 0.5, 9.0))[-1] == 2


def test_inseparable_and_empty_bodies_are_refused() -> None:
    with pytest.raises(ValueError, match="no axis-aligned cut"):
        compile_mesh([block((0, 2), (0, 2), (0, 2), RED), block((1, 3), (1, 3), (1, 3), BLUE)])
    with pytest.raises(ValueError, match="at least one solid"):
        compile_mesh([])
    # A pinwheel of four beams is disjoint, but every cut splits one of them.
    beams = np.array(
        [[[0, 0, 0], [2, 1, 1]], [[2, 0, 0], [3, 2, 1]], [[1, 2, 0], [3, 3, 1]], [[0, 1, 0], [1, 3, 1]]], float
    )
    with pytest.raises(ValueError, match="no axis-aligned cut"):
        build_tree(beams)


def test_wheels_touch_the_ground_with_a_flat() -> None:
    mesh = compile_mesh([wheel(1.0, (0.0, 0.1), 0.3)])
    assert mesh.extent[0].tolist() == pytest.approx([0.7, 0.0, 0.0], abs=1e-6)
    assert mesh.extent[1].tolist() == pytest.approx([1.3, 0.1, 0.6], abs=1e-6)
    assert (np.abs(mesh.normals[:, 1]) > 0.99).sum() == 4  # two faces, two painted hubs


def test_paint_lies_on_its_face() -> None:
    solid = (
        block((-1, 1), (-1, 1), (0, 1), RED, top_x=(-1, 0.5))
        .stripe(FRONT, 0.2, 0.8, 0.2, 0.8, BLUE)
        .stripe(TOP, 0, 1, 0, 1, BLUE)
    )
    mesh = compile_mesh([solid])
    for face in (-2, -1):
        assert np.allclose(mesh.corners[mesh.faces[face]] @ mesh.normals[face], mesh.offsets[face], atol=1e-6)


def test_bodies_on_the_near_side_of_a_separating_line_are_painted_later() -> None:
    low, high = np.tile([-2.0, -1.0, 0.0], (3, 1)), np.tile([2.0, 1.0, 1.5], (3, 1))
    poses = np.array([[20.0, 0.0, 0.3], [10.0, 0.5, 0.0], [15.0, 0.0, 1.2]])
    sides = order.rectangle_sides(low, high, poses)
    hides = order.hides(*sides, np.zeros(2))
    painted = order.back_to_front(hides, np.ones((3, 3), bool), np.linalg.norm(poses[:, :2], axis=1))
    assert painted == [0, 2, 1]


def test_a_long_body_is_ordered_by_sides_not_by_its_middle() -> None:
    """A trailer's middle is nearer than the person who stands beside its far end, in front of it."""
    low, high = np.array([[-6.0, -1.3, 0.0], [-0.3, -0.3, 0.0]]), np.array([[6.0, 1.3, 3.0], [0.3, 0.3, 1.8]])
    poses = np.array([[10.0, 4.0, 0.0], [15.5, 2.2, 0.0]])
    sides = order.rectangle_sides(low, high, poses)
    distance = np.linalg.norm(poses[:, :2], axis=1)
    assert distance[0] < distance[1]
    assert order.back_to_front(order.hides(*sides, np.zeros(2)), np.ones((2, 2), bool), distance) == [0, 1]


def test_discs_cover_the_box() -> None:
    random = np.random.default_rng(0)
    for size in ([2.5, 12.0, 3.0], [2.5, 0.5, 1.0], [0.7, 0.7, 1.8], [2.0, 4.6, 1.7]):
        centres, radius = discs(np.array(size), np.array([[3.0, -2.0, 0.7]]), clearance=0.0)
        local = random.uniform(-0.5, 0.5, (500, 2)) * [size[1], size[0]]
        c, s = np.cos(0.7), np.sin(0.7)
        points = local @ np.array([[c, s], [-s, c]]) + [3.0, -2.0]
        assert (np.linalg.norm(points[:, None] - centres[0], axis=2).min(1) <= radius + 1e-9).all()
