"""One scene: where the ego vehicle drives, who is around, the light, and everybody's pose at any time."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from bev.data.synthetic.casting import fill
from bev.data.synthetic.ground import Ground, paint_ground
from bev.data.synthetic.options import SceneKey, WorldOptions
from bev.data.synthetic.paths import (
    INNER_LANE_M,
    MAIN_EAST,
    OUTER_LANE_M,
    TIME_STEP_S,
    Path,
    Streets,
    lane_path,
    speed_profile,
)
from bev.data.synthetic.population import Body, Population
from bev.data.synthetic.rig import planar_pose
from bev.data.synthetic.sky import Light, draw_light, paint_panorama
from bev.data.synthetic.stage import Stage

KEY_PERIOD_S = 0.5
LEAD_S = 1.0  # the scene's clock starts before its first key frame
EGO_SIZE_M = np.array([2.0, 4.4, 1.6])
EGO_MIDDLE_M = 1.3  # the ego frame's origin (rear axle) lies this far behind the car's middle
MAP_HALF_M = 120.0  # the map mask reaches this far beyond the route


@dataclasses.dataclass(frozen=True)
class Scene:
    """Everything that the sensors of a scene look at, in the city frame.

    Attributes:
        times: (T,) [s] the tracks' clock; key frame k is near k / 2.
        ego_track: (T, 3) x, y [m], heading [rad] of the rear axle.
        bodies: labelled and unlabelled things; tracks: (N, T, 3) theirs.
        global_from_city: (4, 4) planar; the global frame's origin is the map mask's lower left corner.
        map_half_m: half the side of the map mask's square.
    """

    options: WorldOptions
    key: SceneKey
    times: np.ndarray
    ego_track: np.ndarray
    bodies: list[Body]
    tracks: np.ndarray
    streets: Streets
    light: Light
    ground: Ground
    panorama: np.ndarray
    global_from_city: np.ndarray
    map_half_m: float
    route_name: str
    noise_seed: np.random.SeedSequence

    def poses_at(self, time_s: float) -> np.ndarray:
        """(N, 3) x, y [m], heading [rad] of all bodies."""
        return _interpolate(self.tracks, self.times, time_s)

    def ego_at(self, time_s: float) -> np.ndarray:
        """(3,) x, y [m], heading [rad] of the ego vehicle."""
        return _interpolate(self.ego_track, self.times, time_s)


def _interpolate(tracks: np.ndarray, times: np.ndarray, time_s: float) -> np.ndarray:
    position = float(np.clip((time_s - times[0]) / TIME_STEP_S, 0, len(times) - 1.001))
    low = int(position)
    share = position - low
    return tracks[..., low, :] * (1 - share) + tracks[..., low + 1, :] * share


def build_scene(options: WorldOptions, key: SceneKey) -> Scene:
    """Draw a scene; it depends on (seed, key), the number of frames and nothing else that other scenes share."""
    seeds = np.random.SeedSequence([options.seed, int(key.held_out), key.number]).spawn(3)
    random, look = np.random.default_rng(seeds[0]), np.random.default_rng(seeds[1])
    times = np.arange(-LEAD_S, options.frames_per_scene * KEY_PERIOD_S + LEAD_S, TIME_STEP_S)
    streets, path, name = _route(random)
    stops = bool(random.random() < 0.35)
    ego = path.poses(speed_profile(random, times, float(random.uniform(3.0, 9.0)), stops))
    population = Population(random, times)
    middle = ego.copy()
    middle[:, :2] += EGO_MIDDLE_M * np.stack([np.cos(ego[:, 2]), np.sin(ego[:, 2])], 1)
    population.reserve(EGO_SIZE_M, middle)
    fill(Stage(population, streets, ego, options.traffic_percent / 100))
    light = draw_light(look)
    low, high = ego[:, :2].min(0) - 75.0, ego[:, :2].max(0) + 75.0
    shadows = [shadow_outline(b.size, b.track[0], light) for b in population.bodies if b.static]
    ground = paint_ground(look, streets, low, high, shadows, light.shade)
    global_from_city, map_half = _global_frame(random, ego)
    return Scene(
        options,
        key,
        times,
        ego,
        population.bodies,
        np.stack([b.track for b in population.bodies]),
        streets,
        light,
        ground,
        paint_panorama(look, light),
        global_from_city,
        map_half,
        name,
        seeds[2],
    )


def _route(random: np.random.Generator) -> tuple[Streets, Path, str]:
    """The ego vehicle starts eastwards at x = 0 and goes on, or turns at the first crossing."""
    name = str(random.choice(["straight on", "left turn", "right turn"], p=[0.5, 0.25, 0.25]))
    first, block = float(random.uniform(28, 85)), float(random.uniform(85, 125))
    streets = Streets(tuple(first + block * k for k in range(-2, 5)))
    if name == "straight on":
        return (
            streets,
            lane_path(MAIN_EAST, 0.0, float(random.choice([INNER_LANE_M, OUTER_LANE_M], p=[0.6, 0.4]))),
            name,
        )
    left = name == "left turn"
    lane = INNER_LANE_M if left else OUTER_LANE_M
    return streets, lane_path(MAIN_EAST, 0.0, lane, first, left, 9.0 if left else 7.0), name


def _global_frame(random: np.random.Generator, ego: np.ndarray) -> tuple[np.ndarray, float]:
    """global_from_city and half the map's side [m]: any heading, the middle of the route in the map's middle."""
    turn = planar_pose(0.0, 0.0, float(random.uniform(-np.pi, np.pi)))
    middle = (ego[:, :2].min(0) + ego[:, :2].max(0)) / 2
    half = MAP_HALF_M + float(np.ceil(np.ptp(ego[:, :2], axis=0).max() / 2))
    turn[:2, 3] = half - turn[:2, :2] @ middle
    return turn, half


def shadow_outline(size: np.ndarray, pose: np.ndarray, light: Light) -> np.ndarray:
    """Convex polygon (n, 2) [m, city] of the shadow that a box (w, l, h) at x, y, heading throws on the ground."""
    w, l, h = (float(v) for v in size)
    c, s = np.cos(pose[2]), np.sin(pose[2])
    foot = np.array([[l, w], [-l, w], [-l, -w], [l, -w]]) / 2 @ np.array([[c, s], [-s, c]]) + pose[:2]
    both = np.concatenate([foot, foot + h * 0.9 * light.shadow_reach]).astype(np.float32)
    return cv2.convexHull(both)[:, 0].astype(np.float64)
