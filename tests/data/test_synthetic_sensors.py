"""The synthetic sensors against plain geometry: who hides whom, where boxes project, what the LiDAR hits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bev.data.synthetic import lidar as lidar_module
from bev.data.synthetic.camera import NEAR_M, SUPER, Camera, View, clip_near
from bev.data.synthetic.crowd import gather
from bev.data.synthetic.lidar import (
    BEAMS,
    COLUMNS,
    DIRECTIONS,
    EGO_FROM_LIDAR,
    Lidar,
    boxes_to_rays,
    count_inside,
    to_ego,
)
from bev.data.synthetic.options import SceneKey, WorldOptions
from bev.data.synthetic.rig import CAMERAS, invert_rigid, planar_pose
from bev.data.synthetic.scene import build_scene

WIDTH, HEIGHT = 96, 54
TIME_S = 1.0


@pytest.fixture(scope="module")
def stage() -> SimpleNamespace:
    scene = build_scene(WorldOptions(scenes=1, seed=11, frames_per_scene=6), SceneKey(False, 0))
    crowd = gather(scene.bodies)
    cameras = [Camera(sensor, scene, crowd, WIDTH, HEIGHT) for sensor in CAMERAS]
    ego, poses = scene.ego_at(TIME_S), scene.poses_at(TIME_S)
    scan = Lidar(crowd, scene.ground).scan(ego, poses, np.random.default_rng(0))
    sizes = np.stack([body.size for body in scene.bodies])
    return SimpleNamespace(
        scene=scene,
        crowd=crowd,
        cameras=cameras,
        ego=ego,
        poses=poses,
        scan=scan,
        sizes=sizes,
        views=[camera.view(ego, poses) for camera in cameras],
    )


def cast(stage: SimpleNamespace, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Body (R,) that each ray (R, 3) from an origin (3,) meets first, -1 for none: every solid, no short cuts."""
    crowd, nearest = stage.crowd, np.full(len(rays), np.inf)
    body = np.full(len(rays), -1)
    for k, planes in enumerate(crowd.planes[:, :, :]):
        owner = crowd.solid_body[k]
        turn = planar_pose(*stage.poses[owner])
        start = turn[:3, :3].T @ (origin - turn[:3, 3])
        direction = rays @ turn[:3, :3]
        planes = planes[np.abs(planes[:, :3]).max(1) > 0].astype(float)
        gap, along = planes[:, 3] - planes[:, :3] @ start, direction @ planes[:, :3].T
        with np.errstate(divide="ignore", invalid="ignore"):
            t = gap / along
        enter = np.where(along < 0, t, -np.inf).max(1)
        leave = np.where(along > 0, t, np.inf).min(1)
        hit = (enter < leave) & (enter > 0) & (enter < nearest)
        nearest[hit], body[hit] = enter[hit], owner
    return body


def painted_bodies(view: View) -> np.ndarray:
    return np.concatenate([[-1], view.members])[view.body]


def test_the_painter_agrees_with_ray_casting(stage: SimpleNamespace) -> None:
    """Sub-pixels whose neighbours agree (no edge runs through) must show the body that a ray meets first."""
    compared = 0
    for camera, view in zip(stage.cameras, stage.views):
        shown = painted_bodies(view)
        inner = np.ones_like(shown, bool)
        for axis in (0, 1):
            for shift in (1, -1):
                inner &= shown == np.roll(shown, shift, axis)
        rows, columns = np.nonzero(inner)
        picked = np.arange(0, len(rows), 5)
        rows, columns = rows[picked], columns[picked]
        matrix = camera.matrix
        u, v = (columns + 0.5) / SUPER, (rows + 0.5) / SUPER
        rays = np.stack([(u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1], np.ones(len(u))], 1)
        pose = planar_pose(*stage.ego) @ camera.sensor.ego_from_sensor
        truth = cast(stage, pose[:3, 3], rays @ pose[:3, :3].T)
        near = np.concatenate([[False], np.ones(len(view.members), bool)])[view.body[rows, columns]] | (truth < 0)
        near |= np.isin(truth, view.members)  # bodies beyond the painter's range are no errors
        assert (truth == shown[rows, columns])[near].mean() > 0.995
        compared += (truth >= 0).sum()
    assert compared > 2000


def test_projected_boxes_hold_what_was_painted(stage: SimpleNamespace) -> None:
    """The extent of a body that nothing hides is that of its projected box, to the box's small margin and a pixel."""
    checked = 0
    for camera, view in zip(stage.cameras, stage.views):
        cam_from_city = invert_rigid(planar_pose(*stage.ego) @ camera.sensor.ego_from_sensor)
        for slot, k in enumerate(view.members):
            if not stage.scene.bodies[k].category or view.visible[slot] < max(view.whole[slot], 60):
                continue
            w, l, h = stage.sizes[k]
            corners = np.array([[x, y, z] for x in (-l / 2, l / 2) for y in (-w / 2, w / 2) for z in (0, h)])
            pose = planar_pose(*stage.poses[k])
            points = corners @ pose[:3, :3].T + pose[:3, 3]
            points = points @ cam_from_city[:3, :3].T + cam_from_city[:3, 3]
            if points[:, 2].min() < NEAR_M:
                continue
            pixels = points[:, :2] / points[:, 2:] * np.diag(camera.matrix)[:2] + camera.matrix[:2, 2]
            low, high = pixels.min(0), pixels.max(0)
            if (low < 1).any() or (high > [WIDTH - 1, HEIGHT - 1]).any():
                continue
            rows, columns = np.nonzero(view.body == slot + 1)
            seen_low = np.array([columns.min(), rows.min()]) / SUPER
            seen_high = np.array([columns.max() + 1, rows.max() + 1]) / SUPER
            assert (seen_low >= low - 0.75).all() and (seen_high <= high + 0.75).all()
            assert seen_high[1] > high[1] - 0.35 * (high[1] - low[1]) - 1  # it reaches its ground contact
            checked += 1
    assert checked >= 5


def test_visible_never_exceeds_whole_and_is_sometimes_less(stage: SimpleNamespace) -> None:
    labelled = np.array([bool(body.category) for body in stage.scene.bodies])
    whole = np.concatenate([view.whole[labelled[view.members]] for view in stage.views])
    visible = np.concatenate([view.visible[labelled[view.members]] for view in stage.views])
    assert (visible <= whole).all() and (visible < 0.4 * whole).any() and (visible == whole)[whole > 0].any()


def test_bodies_never_overlap(stage: SimpleNamespace) -> None:
    corners, normals, offsets = lidar_rectangles(stage)
    reach = np.einsum("ikc,jmc->mikj", normals, corners).min(0) - offsets[:, :, None]
    apart = (reach >= -1e-6).any(1)
    assert (apart | apart.T | np.eye(len(corners), dtype=bool)).all()


def lidar_rectangles(stage: SimpleNamespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from bev.data.synthetic.order import rectangle_sides

    return rectangle_sides(stage.crowd.low, stage.crowd.high, stage.poses)


def test_the_lidar_hits_what_a_plain_ray_caster_hits(stage: SimpleNamespace) -> None:
    picked = np.arange(0, len(stage.scan.rays), 23)
    pose = planar_pose(*stage.ego) @ EGO_FROM_LIDAR
    truth = cast(stage, pose[:3, 3], DIRECTIONS[stage.scan.rays[picked]].astype(float) @ pose[:3, :3].T)
    ranges = np.linalg.norm(stage.scan.points[picked, :3], axis=1)
    truth[(stage.scan.body[picked] < 0) & (ranges < 99)] = np.where(ground_first(stage, picked), -1, truth)[
        (stage.scan.body[picked] < 0) & (ranges < 99)
    ]
    assert (truth == stage.scan.body[picked]).mean() > 0.999


def ground_first(stage: SimpleNamespace, picked: np.ndarray) -> np.ndarray:
    """Whether a return lies on the ground plane, where the plain caster (which knows no ground) sees farther."""
    points = stage.scan.points[picked, :3].astype(float) @ EGO_FROM_LIDAR[:3, :3].T + EGO_FROM_LIDAR[:3, 3]
    return np.abs(points[:, 2]) < 0.06


def test_points_lie_on_the_surfaces_of_what_they_hit(stage: SimpleNamespace) -> None:
    points = stage.scan.points[:, :3].astype(float) @ EGO_FROM_LIDAR[:3, :3].T + EGO_FROM_LIDAR[:3, 3]
    relative = to_ego(stage.poses, stage.ego)
    distances = []
    for k in np.unique(stage.scan.body[stage.scan.body >= 0]):
        own = points[stage.scan.body == k] - [*relative[k, :2], 0]
        c, s = np.cos(relative[k, 2]), np.sin(relative[k, 2])
        local = np.column_stack([c * own[:, 0] + s * own[:, 1], c * own[:, 1] - s * own[:, 0], own[:, 2]])
        solids = stage.crowd.planes[stage.crowd.solid_body == k].astype(float)
        outside = np.einsum("pkc,nc->npk", solids[..., :3], local) - solids[None, ..., 3]
        distances.append(np.abs(outside.max(2)).min(1))
    distance = np.concatenate(distances)
    assert np.percentile(distance, 99) < 4 * lidar_module.NOISE_M
    assert len(distance) > 2000
    ground = points[stage.scan.body < 0]
    assert np.abs(ground[:, 2]).max() < 0.08 and len(ground) > 5000


def test_counts_equal_a_plain_count(stage: SimpleNamespace) -> None:
    relative = to_ego(stage.poses, stage.ego)
    points = stage.scan.points[:, :3].astype(float) @ EGO_FROM_LIDAR[:3, :3].T + EGO_FROM_LIDAR[:3, 3]
    counts = count_inside(stage.scan, relative, stage.sizes)
    for k, (w, l, h) in enumerate(stage.sizes):
        c, s = np.cos(relative[k, 2]), np.sin(relative[k, 2])
        x, y = points[:, 0] - relative[k, 0], points[:, 1] - relative[k, 1]
        inside = (
            (np.abs(c * x + s * y) <= l / 2)
            & (np.abs(c * y - s * x) <= w / 2)
            & (points[:, 2] >= 0)
            & (points[:, 2] <= h)
        )
        assert counts[k] == inside.sum()
    assert (counts > 0).sum() > 10


def test_rays_of_a_box_are_a_superset_of_those_that_meet_it() -> None:
    random = np.random.default_rng(5)
    relative = np.column_stack([random.uniform(-40, 40, (60, 2)), random.uniform(-4, 4, 60)])
    relative = relative[np.linalg.norm(relative[:, :2], axis=1) > 3]
    half = random.uniform(0.1, 3.0, (len(relative), 2))
    bounds = np.stack(
        [np.column_stack([-half, np.zeros(len(half))]), np.column_stack([half, random.uniform(0.2, 4, len(half))])], 1
    )
    rays, owner = boxes_to_rays(relative, bounds)
    assert rays.min() >= 0 and rays.max() < BEAMS * COLUMNS
    origin, directions = EGO_FROM_LIDAR[:3, 3], DIRECTIONS.astype(float) @ EGO_FROM_LIDAR[:3, :3].T
    for k, (low, high) in enumerate(bounds):
        turn = planar_pose(*relative[k])
        start, ray = turn[:3, :3].T @ (origin - turn[:3, 3]), directions @ turn[:3, :3]
        near, far = np.sort(np.stack([(low - start) / ray, (high - start) / ray]), axis=0)
        hits = np.flatnonzero((near.max(1) < far.min(1)) & (near.max(1) > 0))
        assert set(hits) <= set(rays[owner == k])


def test_clipping_keeps_what_lies_before_the_camera() -> None:
    square = np.array([[-1.0, 0, -1], [1, 0, -1], [1, 0, 3], [-1, 0, 3]])
    clipped = clip_near(square)
    assert clipped[:, 2].min() == pytest.approx(NEAR_M) and clipped[:, 2].max() == 3 and len(clipped) == 4
    assert len(clip_near(square - [0, 0, 5])) == 0


def test_objects_move_between_the_moments_of_two_cameras(stage: SimpleNamespace) -> None:
    scene = stage.scene
    first, last = scene.poses_at(TIME_S - 0.043), scene.poses_at(TIME_S)
    moved = np.linalg.norm(first[:, :2] - last[:, :2], axis=1)
    assert moved.max() > 0.1 and (moved < 1e-9).any()
