"""Who moves: traffic in its lanes, cycles, tractors with trailers, people on foot."""

from __future__ import annotations

import numpy as np

from bev.data.synthetic import paths
from bev.data.synthetic.paths import MAIN_EAST, MAIN_WEST, Path, Road, lane_path, speed_profile
from bev.data.synthetic.stage import RIDDEN, TRAFFIC, Stage
from bev.data.synthetic.standing import bus_kind, person


def walk(stage: Stage) -> bool:
    """Along a pavement, or across the road."""
    index = int(stage.random.integers(len(stage.ego)))
    road, along = stage.spot(margin=0.0, reach=34.0)
    speed = float(np.clip(stage.random.normal(1.3, 0.3), 0.6, 2.2))
    heading, lateral = road.heading, stage.between(10.4, 11.5)
    if stage.random.random() < 0.14:
        heading, lateral = road.heading + np.pi / 2, 10.6
    elif stage.random.random() < 0.5:
        heading += np.pi
    x, y = road.place(along, lateral)
    path = Path((float(x), float(y)), heading)
    arc = speed_profile(stage.random, stage.times, speed, bool(stage.random.random() < 0.2))
    return person(stage, path.poses(arc - arc[index]), walks=True)


def drive(stage: Stage, kind: str) -> bool:
    """In a lane, straight on or turning at a crossing; cycles keep right."""
    category = "vehicle.truck" if kind == "semi" else bus_kind(stage, kind)
    cycle = category in ("vehicle.motorcycle", "vehicle.bicycle")
    index = int(stage.random.integers(len(stage.ego)))
    pose = stage.ego[index]
    road = stage.road(float(pose[0]), 0.8 if abs(pose[1]) < 12 else 0.3)
    along = float((pose[:2] - np.array(road.origin)) @ road.forward) + stage.between(-38, 38)
    inner = bool(stage.random.random() < 0.5)
    lateral = paths.INNER_LANE_M if inner else paths.OUTER_LANE_M
    if category == "vehicle.bicycle":
        lateral, inner = paths.CYCLE_LANE_M - 0.1, False
    slow, fast = {"vehicle.bicycle": (2.5, 6.0), "vehicle.construction": (2.0, 5.0)}.get(category, (3.5, 11.0))
    arc = speed_profile(stage.random, stage.times, stage.between(slow, fast), bool(stage.random.random() < 0.45))
    start = along - arc[index]
    path = lane_path(road, start, lateral, *_turn(stage, road, start, float(arc[-1]), inner, category))
    if kind == "semi":
        return _semi(stage, path, arc)
    if not cycle:
        return stage.people.add(category, stage.people.size(category), path.poses(arc), TRAFFIC)
    size = stage.people.size(category, 0.22 if category == "vehicle.motorcycle" else 0.32)
    return stage.people.add(category, size, path.poses(arc), RIDDEN, rider=True)


def _turn(
    stage: Stage, road: Road, start: float, length: float, inner: bool, category: str
) -> tuple[float | None, bool, float]:
    """Where and how a driver turns: (place along the road or None, left, radius)."""
    places = [0.0]
    if road in (MAIN_EAST, MAIN_WEST):
        places = [c if road is MAIN_EAST else -c for c in stage.streets.crossings]
    ahead = [p for p in places if start + 14 < p < start + length - 4]
    if not ahead or stage.random.random() < 0.45:
        return None, False, 6.0
    return ahead[0], inner, (9.0 if inner else 5.0 if category == "vehicle.bicycle" else 6.5)


def _semi(stage: Stage, path: Path, arc: np.ndarray) -> bool:
    """A tractor with its trailer behind it: both or none."""
    tractor, load = stage.people.size("vehicle.truck"), stage.people.size("vehicle.trailer")
    behind = arc - tractor[1] / 2 - load[1] / 2 - 0.55
    if not (stage.people.fits(tractor, path.poses(arc)) and stage.people.fits(load, path.poses(behind))):
        return False
    stage.people.add("vehicle.trailer", load, path.poses(behind), TRAFFIC)
    return stage.people.add("vehicle.truck", tractor, path.poses(arc), TRAFFIC)
