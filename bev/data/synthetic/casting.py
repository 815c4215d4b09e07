"""The cast of a scene: how many of whom."""

from __future__ import annotations

import dataclasses
from functools import partial

from bev.data.synthetic import moving, scenery, standing
from bev.data.synthetic.stage import Stage


@dataclasses.dataclass(frozen=True)
class Cast:
    """Numbers for each 100 m of street that the ego vehicle passes."""

    parked: dict[str, float]
    driving: dict[str, float]
    standing_people: float = 1.8
    walking_people: float = 5.0
    sitting_people: float = 0.4
    work_sites: float = 1.2
    barrier_rows: float = 0.7
    lone_cones: float = 2.0
    carts: float = 0.5


CAST = Cast(
    parked={
        "vehicle.car": 4.2,
        "vehicle.truck": 1.1,
        "vehicle.bus": 1.0,
        "vehicle.trailer": 1.5,
        "vehicle.construction": 0.5,
        "vehicle.motorcycle": 1.0,
        "vehicle.bicycle": 1.8,
    },
    driving={
        "vehicle.car": 5.4,
        "vehicle.truck": 0.7,
        "semi": 0.7,
        "vehicle.bus": 1.4,
        "vehicle.construction": 0.5,
        "vehicle.motorcycle": 1.5,
        "vehicle.bicycle": 1.8,
    },
)

EARLY = ("vehicle.trailer", "vehicle.bus", "vehicle.truck", "vehicle.car", "vehicle.motorcycle", "vehicle.bicycle")


def fill(stage: Stage) -> None:
    """Houses first, then one of every class near the start (so that a short scene has them all), then the rest."""
    scenery.houses(stage)
    for kind in EARLY:
        stage.repeat(1, partial(standing.park, stage, kind, early=True), tries=40)
    if not stage.repeat(1, partial(standing.work_site, stage, early=True), tries=40):
        stage.repeat(1, partial(standing.park, stage, "vehicle.construction", early=True), tries=40)
    for early in (standing.stand, standing.lone_cone, standing.barrier_line):
        stage.repeat(1, partial(early, stage, early=True), tries=40)
    drivers = [kind for kind, mean in CAST.driving.items() for _ in range(stage.count(mean))]
    for index in stage.random.permutation(len(drivers)):
        stage.repeat(1, partial(moving.drive, stage, drivers[index]), tries=6)
    stage.repeat(stage.count(CAST.work_sites) - 1, partial(standing.work_site, stage))
    stage.repeat(stage.count(CAST.barrier_rows), partial(standing.barrier_line, stage))
    for kind, mean in CAST.parked.items():
        stage.repeat(stage.count(mean), partial(standing.park, stage, kind))
    for act, mean in (
        (moving.walk, CAST.walking_people),
        (standing.stand, CAST.standing_people),
        (standing.sit, CAST.sitting_people),
        (standing.lone_cone, CAST.lone_cones),
        (standing.cart, CAST.carts),
    ):
        stage.repeat(stage.count(mean), partial(act, stage))
    scenery.furniture(stage)
