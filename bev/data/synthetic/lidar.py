"""The LiDAR: rays cast against the bodies' solids and the ground.

A whole turn is taken at one instant, the time stamp (a real one takes 50 ms): points need no motion correction.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bev.data.synthetic.crowd import Crowd
from bev.data.synthetic.ground import Ground
from bev.data.synthetic.rig import BEAMS, COLUMNS, HIGHEST_BEAM_RAD, LIDAR_TOP, LOWEST_BEAM_RAD

RANGE_M = (1.0, 100.0)
NOISE_M = 0.012
BEAM_STEP = (HIGHEST_BEAM_RAD - LOWEST_BEAM_RAD) / (BEAMS - 1)


@dataclasses.dataclass(frozen=True)
class Scan:
    """One turn.

    Attributes:
        points: (R, 5) float32: x, y, z [m] in the LiDAR frame, intensity (whole numbers 0 to 255), ring (0 lowest).
        body: (R,) index of the body that was hit, -1 for the ground.
        rays: (R,) index of each point's ray: column * 32 + beam.
    """

    points: np.ndarray
    body: np.ndarray
    rays: np.ndarray


def _directions() -> np.ndarray:
    """(COLUMNS, BEAMS, 3) float32 unit rays in the LiDAR frame; column 0 looks along -x and columns turn clockwise."""
    azimuth = np.pi - (np.arange(COLUMNS) + 0.5) / COLUMNS * 2 * np.pi
    elevation = LOWEST_BEAM_RAD + np.arange(BEAMS) * BEAM_STEP
    flat = np.cos(elevation)
    return np.stack(
        [
            np.cos(azimuth)[:, None] * flat,
            np.sin(azimuth)[:, None] * flat,
            np.broadcast_to(np.sin(elevation), (COLUMNS, BEAMS)),
        ],
        -1,
    ).astype(np.float32)


DIRECTIONS = _directions().reshape(-1, 3)
EGO_FROM_LIDAR = LIDAR_TOP.ego_from_sensor
EGO_DIRECTIONS = np.einsum("ij,rj->ri", EGO_FROM_LIDAR[:3, :3], DIRECTIONS).astype(np.float32)
# The car stays level on flat ground: where each ray meets the ground is a constant.
GROUND_RANGE_M = np.float32(EGO_FROM_LIDAR[2, 3]) / np.maximum(-EGO_DIRECTIONS[:, 2], np.float32(1e-9))
GROUND_RAYS = np.flatnonzero(GROUND_RANGE_M < RANGE_M[1])
GROUND_XY_M = (EGO_FROM_LIDAR[:2, 3] + EGO_DIRECTIONS[GROUND_RAYS, :2] * GROUND_RANGE_M[GROUND_RAYS, None]).T.copy()
GROUND_REFLECTANCE = (0.08 + 0.45 * (np.arange(256) / 255) ** 1.5).astype(np.float32)  # of a grey value: marks shine


class Lidar:
    """LIDAR_TOP in one scene."""

    def __init__(self, crowd: Crowd, ground: Ground) -> None:
        self.crowd, self.ground = crowd, ground

    def scan(self, ego: np.ndarray, poses: np.ndarray, random: np.random.Generator) -> Scan:
        """Cast all rays for the ego pose (3,) and the bodies' poses (N, 3) in the city frame [m, rad]."""
        distance, cosine, reflectance, body = self._ground_hits(ego)
        relative = to_ego(poses, ego)
        near = np.linalg.norm(relative[:, :2], axis=1) - self.crowd.radius < RANGE_M[1]
        solids = np.flatnonzero(near[self.crowd.solid_body])
        rays, owner = boxes_to_rays(relative[self.crowd.solid_body[solids]], self.crowd.bounds[solids])
        planes = self._planes(relative, solids)
        for count in (6, 10):
            chosen = np.flatnonzero((self.crowd.plane_count[solids] == count)[owner])
            pair_solid, pair_ray = owner[chosen], rays[chosen]
            t, cos = _meet(planes[:count], pair_solid, pair_ray)
            hit = np.flatnonzero(t < distance[pair_ray])
            # Farthest first: of several hits on one ray the nearest is written last and stays.
            hit = hit[np.argsort(-t[hit], kind="stable")]
            ray, solid = pair_ray[hit], solids[pair_solid[hit]]
            distance[ray], cosine[ray], reflectance[ray] = t[hit], cos[hit], self.crowd.reflectance[solid]
            body[ray] = self.crowd.solid_body[solid]
        return self._returns(distance, cosine, reflectance, body, random)

    def _ground_hits(self, ego: np.ndarray) -> tuple[np.ndarray, ...]:
        """Range, cosine of incidence, reflectance and body (-1) of every ray on the empty ground."""
        c, s = np.cos(ego[2]), np.sin(ego[2])
        x, y = GROUND_XY_M
        grey = self.ground.brightness(np.stack([c * x - s * y + ego[0], s * x + c * y + ego[1]], 1))
        reflectance = np.full(len(GROUND_RANGE_M), 0.2, np.float32)
        reflectance[GROUND_RAYS] = GROUND_REFLECTANCE[grey]
        cosine = np.maximum(-EGO_DIRECTIONS[:, 2], 0)
        return GROUND_RANGE_M.copy(), cosine, reflectance, np.full(len(cosine), -1, np.int32)

    def _planes(self, relative: np.ndarray, solids: np.ndarray) -> np.ndarray:
        """(10, 4, S) float32: outward normals of the solids' planes in the ego frame, the sensor's way to each [m]."""
        pose = relative[self.crowd.solid_body[solids]]
        c, s = np.cos(pose[:, 2]), np.sin(pose[:, 2])
        x, y, z, offset = self.crowd.planes[solids].transpose(2, 1, 0)
        nx, ny = c * x - s * y, s * x + c * y
        px, py, pz = EGO_FROM_LIDAR[0, 3] - pose[:, 0], EGO_FROM_LIDAR[1, 3] - pose[:, 1], EGO_FROM_LIDAR[2, 3]
        return np.stack([nx, ny, z, offset - (nx * px + ny * py + z * pz)], 1).astype(np.float32)

    def _returns(
        self,
        distance: np.ndarray,
        cosine: np.ndarray,
        reflectance: np.ndarray,
        body: np.ndarray,
        random: np.random.Generator,
    ) -> Scan:
        """Drop weak echoes and a few at random; add range noise and intensities."""
        power = reflectance * np.sqrt(np.maximum(cosine, 1e-3))
        luck = random.random(len(distance), dtype=np.float32)
        weak = power * (70.0 / np.maximum(distance, 1)) ** 2 < 0.05 + 0.05 * luck
        seen = np.flatnonzero((distance < RANGE_M[1]) & ~weak & (luck > 0.015))
        noisy = distance[seen] + NOISE_M * random.standard_normal(len(seen), dtype=np.float32)
        intensity = 255 * power[seen] * np.exp(-distance[seen] / 60) * random.uniform(0.8, 1.2, len(seen))
        points = np.column_stack(
            [DIRECTIONS[seen] * noisy[:, None], np.clip(np.round(intensity), 0, 255), seen % BEAMS]
        )
        return Scan(points.astype(np.float32), body[seen], seen)


def _meet(planes: np.ndarray, solid: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter convex solids.

    Args:
        planes: (k, 4, S) as `Lidar._planes` gives them.
        solid, ray: (m,) pairs: index of the solid and of the ray.

    Returns:
        range (m,) [m], inf where the ray misses, and cosine of incidence (m,).
    """
    dx, dy, dz = EGO_DIRECTIONS.T[:, ray]
    enter, leave = np.full(len(ray), RANGE_M[0], np.float32), np.full(len(ray), np.inf, np.float32)
    cosine = np.ones(len(ray), np.float32)
    for plane in planes:
        nx, ny, nz, gap = plane[:, solid]
        along = nx * dx + ny * dy + nz * dz
        along[np.abs(along) < 1e-7] = 1e-7
        t = gap / along
        entering = along < 0
        later = entering & (t > enter)
        np.copyto(enter, t, where=later)
        np.copyto(cosine, -along, where=later)
        np.minimum(leave, t, out=leave, where=~entering)
    return np.where((enter <= leave) & (enter > RANGE_M[0]), enter, np.float32(np.inf)), cosine


def to_ego(poses: np.ndarray, ego: np.ndarray) -> np.ndarray:
    """City poses (n, 3) x, y [m], heading [rad] in the frame of the ego pose (3,)."""
    c, s = np.cos(ego[2]), np.sin(ego[2])
    x, y = poses[:, 0] - ego[0], poses[:, 1] - ego[1]
    return np.column_stack([c * x + s * y, c * y - s * x, poses[:, 2] - ego[2]])


def boxes_to_rays(relative: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every ray that can meet each box.

    Args:
        relative: (n, 3) x, y [m], heading [rad] of the boxes' frames in the ego frame.
        bounds: (n, 2, 3) [m] lowest and highest corner in the box's frame.

    Returns:
        rays (m,) and box indices (m,), boxes ascending. A superset: rays just above or below the box are among them.
    """
    c, s = np.cos(relative[:, 2]), np.sin(relative[:, 2])
    x, y = bounds[:, [0, 0, 1, 1], 0], bounds[:, [0, 1, 1, 0], 1]
    flat = np.stack(
        [relative[:, :1] + c[:, None] * x - s[:, None] * y, relative[:, 1:2] + s[:, None] * x + c[:, None] * y], -1
    )
    corners = np.concatenate(
        [np.concatenate([flat, np.broadcast_to(bounds[:, k, None, 2:], (len(flat), 4, 1))], -1) for k in (0, 1)], 1
    )
    seen = np.einsum("nkj,ji->nki", corners - EGO_FROM_LIDAR[:3, 3], EGO_FROM_LIDAR[:3, :3])
    reach = np.linalg.norm(seen[..., :2], axis=2)
    origin = EGO_FROM_LIDAR[:2, 3]
    ox = c * (origin[0] - relative[:, 0]) + s * (origin[1] - relative[:, 1])
    oy = c * (origin[1] - relative[:, 1]) - s * (origin[0] - relative[:, 0])
    beside = np.stack(
        [
            np.maximum(np.maximum(bounds[:, 0, 0] - ox, ox - bounds[:, 1, 0]), 0),
            np.maximum(np.maximum(bounds[:, 0, 1] - oy, oy - bounds[:, 1, 1]), 0),
        ],
        -1,
    )
    closest = np.maximum(np.linalg.norm(beside, axis=1) - 0.1, 0.05)
    low, high = seen[..., 2].min(1), seen[..., 2].max(1)
    margin = 0.35 * BEAM_STEP  # the tilted sensor's distances differ a little from the level ones used here
    beam_low = np.arctan2(low, np.where(low < 0, closest, reach.max(1))) - margin
    beam_high = np.arctan2(high, np.where(high > 0, closest, reach.max(1))) + margin
    first_beam = np.clip(np.ceil((beam_low - LOWEST_BEAM_RAD) / BEAM_STEP), 0, BEAMS).astype(np.int64)
    last_beam = np.clip(np.floor((beam_high - LOWEST_BEAM_RAD) / BEAM_STEP), -1, BEAMS - 1).astype(np.int64)
    middle = seen.mean(1)
    centre = np.arctan2(middle[:, 1], middle[:, 0])
    spread = (np.arctan2(seen[..., 1], seen[..., 0]) - centre[:, None] + np.pi) % (2 * np.pi) - np.pi
    around = closest < 0.3  # the sensor is above the box: every column
    left, right = np.where(around, np.pi - 1e-6, spread.max(1)), np.where(around, -np.pi + 1e-6, spread.min(1))
    step = 2 * np.pi / COLUMNS
    first = np.ceil((np.pi - centre - left) / step - 0.501).astype(np.int64)
    last = np.floor((np.pi - centre - right) / step - 0.499).astype(np.int64)
    columns = np.clip(last - first + 1, 0, COLUMNS)
    beams = np.maximum(last_beam - first_beam + 1, 0)
    count = columns * beams
    owner = np.repeat(np.arange(len(count)), count)
    inner = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    width = np.maximum(beams, 1)[owner]
    return (first[owner] + inner // width) % COLUMNS * BEAMS + first_beam[owner] + inner % width, owner


def count_inside(scan: Scan, relative: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Points of a scan inside boxes.

    Args:
        relative: (n, 3) x, y [m], heading [rad] of the boxes in the ego frame (they stand on the ground).
        sizes: (n, 3) w, l, h [m].

    Returns:
        (n,) counts; as in the devkit's `points_in_box`, points on the surface count.
    """
    half = np.stack([sizes[:, 1], sizes[:, 0]], -1) / 2
    bounds = np.stack([np.column_stack([-half, np.zeros(len(sizes))]), np.column_stack([half, sizes[:, 2]])], 1)
    rays, owner = boxes_to_rays(relative, bounds)
    index = np.full(BEAMS * COLUMNS, -1)
    index[scan.rays] = np.arange(len(scan.rays))
    exists = index[rays] >= 0
    owner, point = owner[exists], scan.points[index[rays[exists]], :3].astype(np.float64)
    point = np.einsum("ij,pj->pi", EGO_FROM_LIDAR[:3, :3], point) + EGO_FROM_LIDAR[:3, 3]
    c, s = np.cos(relative[owner, 2]), np.sin(relative[owner, 2])
    x, y = point[:, 0] - relative[owner, 0], point[:, 1] - relative[owner, 1]
    inside = (
        (np.abs(c * x + s * y) <= half[owner, 0])
        & (np.abs(c * y - s * x) <= half[owner, 1])
        & (point[:, 2] >= 0)
        & (point[:, 2] <= sizes[owner, 2])
    )
    return np.bincount(owner[inside], minlength=len(sizes))
