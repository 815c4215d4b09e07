"""Who stands: parked vehicles, people, work sites, barriers, cones, carts."""

from __future__ import annotations

import numpy as np

from bev.data.synthetic import paths
from bev.data.synthetic.paths import Road
from bev.data.synthetic.people import sitter
from bev.data.synthetic.stage import PARKED, RIDERLESS, SITTER, WALKER, Stage

STANDING_WLH = np.array([1.0, 0.78, 1.0])  # who stands is shorter along the heading than who walks
WALKING_WLH = np.array([1.0, 1.05, 1.0])
BUSES = ("vehicle.bus.rigid", "vehicle.bus.rigid", "vehicle.bus.rigid", "vehicle.bus.bendy")
PEOPLE = ("human.pedestrian.adult",) * 7 + (
    "human.pedestrian.child",
    "human.pedestrian.police_officer",
    "human.pedestrian.construction_worker",
)


def bus_kind(stage: Stage, kind: str) -> str:
    """A category; of buses a rigid or a bendy one."""
    return str(stage.random.choice(BUSES)) if kind == "vehicle.bus" else kind


def park(stage: Stage, kind: str, early: bool = False) -> bool:
    """At the curb, on the pavement (two wheels) or at any angle in a yard behind it."""
    category = bus_kind(stage, kind)
    road, along = stage.spot(early)
    u = stage.random.random()
    if category in ("vehicle.motorcycle", "vehicle.bicycle"):
        size = stage.people.size(category, -0.16 if category == "vehicle.motorcycle" else -0.12)
        lateral, turn = (
            (paths.PARKING_M, float(stage.random.normal(np.pi / 2, 0.3)))
            if u < 0.4
            else (stage.between(9.9, 12.5), stage.any_angle())
        )
        return stage.people.add(
            category,
            size,
            stage.still(road, along, lateral, turn),
            RIDERLESS,
        )
    size, large = stage.people.size(category), category != "vehicle.car"
    if u < (0.45 if large else 0.22) and not early:
        lateral, turn = stage.between(16, 30), stage.any_angle()
    else:
        lateral = paths.PARKING_M + max(0.0, size[0] - 2.3) / 2 + float(stage.random.normal(0, 0.08))
        turn = float(stage.random.normal(0, 0.03)) + (np.pi if stage.random.random() < 0.08 else 0.0)
    return stage.people.add(category, size, stage.still(road, along, lateral, turn), PARKED)


def person(stage: Stage, track: np.ndarray, walks: bool) -> bool:
    """Add a random person on a track; returns whether there was room."""
    category = str(stage.random.choice(PEOPLE))
    stride = float(stage.random.uniform(0.7, 1.0) if walks else stage.random.uniform(0.1, 0.5))
    size = stage.people.size(category) * (WALKING_WLH if walks else STANDING_WLH)
    return stage.people.add(category, size, track, WALKER, stride=stride)


def stand(stage: Stage, early: bool = False) -> bool:
    """Somebody who stands on the pavement."""
    road, along = stage.spot(early, margin=11.0)
    lateral = stage.between(10.0, 12.0)
    return person(stage, stage.still(road, along, lateral, stage.any_angle()), walks=False)


def sit(stage: Stage) -> bool:
    """Somebody who sits on a stool at the back of the pavement."""
    road, along = stage.spot(margin=12.0)
    size = np.array([0.62, 0.85, 1.28]) * stage.random.uniform(0.94, 1.06)
    track = stage.still(road, along, stage.between(11.5, 13.2), stage.any_angle())
    return stage.people.add(
        "human.pedestrian.adult",
        size,
        track,
        SITTER,
        sitter,
    )


def lone_cone(stage: Stage, early: bool = False) -> bool:
    """A cone at the edge of the parking lane, at the curb or on the pavement."""
    road, along = stage.spot(early, reach=28.0)
    lateral = float(stage.random.choice([6.95, 9.2, 10.2]) + stage.random.normal(0, 0.15))
    category = "movable_object.trafficcone"
    return stage.people.add(category, stage.people.size(category), stage.still(road, along, lateral, stage.any_angle()))


def cart(stage: Stage) -> bool:
    """A waste bin at the back of the pavement."""
    road, along = stage.spot()
    category = "movable_object.pushable_pullable"
    return stage.people.add(
        category,
        stage.people.size(category),
        stage.still(road, along, stage.between(11.8, 13.0), stage.any_angle()),
    )


def work_site(stage: Stage, early: bool = False) -> bool:
    """A machine on the parking lane behind a taper of cones and a row of barriers, with workers."""
    road, along = stage.spot(early, margin=22.0, reach=30.0)
    category = "vehicle.construction"
    size = stage.people.size(category)
    heading = float(stage.random.normal(0, 0.25)) + (np.pi if stage.random.random() < 0.3 else 0.0)
    if not stage.people.add(category, size, stage.still(road, along, 8.9, heading), PARKED):
        return False
    half = size[1] / 2 + 2.5
    cones = np.arange(-half, half + 0.1, stage.between(2.2, 3.4))
    for x in cones:
        kind = "movable_object.trafficcone"
        stage.people.add(
            kind,
            stage.people.size(kind),
            stage.still(road, along + x, 6.95 + float(stage.random.normal(0, 0.06)), stage.any_angle()),
        )
    _close_site(stage, road, along, half)
    for _ in range(int(stage.random.integers(1, 4))):
        kind = "human.pedestrian.construction_worker"
        track = stage.still(
            road,
            along + stage.between(-half, half),
            stage.between(10.0, 12.5),
            stage.any_angle(),
        )
        stage.people.add(kind, stage.people.size(kind) * STANDING_WLH, track, WALKER, stride=0.3)
    return True


def _close_site(stage: Stage, road: Road, along: float, half: float) -> None:
    kind = "movable_object.barrier"
    for end in (-1, 1):
        if stage.random.random() < 0.75:
            stage.people.add(
                kind,
                stage.people.size(kind),
                stage.still(road, along + end * (half + 0.8), 8.35, float(stage.random.normal(0, 0.1))),
            )
    _barriers(stage, road, along, half, stage.between(12.4, 13.1))


def barrier_line(stage: Stage, early: bool = False) -> bool:
    """Barriers along a curb, away from any work site."""
    road, along = stage.spot(early, margin=16.0, reach=26.0)
    before = len(stage.people.bodies)
    _barriers(stage, road, along, stage.between(3, 7), float(stage.random.choice([9.9, 12.6])))
    return len(stage.people.bodies) > before


def _barriers(stage: Stage, road: Road, along: float, half: float, lateral: float) -> None:
    kind, x = "movable_object.barrier", -half
    while x < half and stage.random.random() < 0.93:
        size = stage.people.size(kind)
        stage.people.add(
            kind, size, stage.still(road, along + x, lateral, np.pi / 2 + float(stage.random.normal(0, 0.04)))
        )
        x += size[0] + stage.between(0.45, 0.9)
