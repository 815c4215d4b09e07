"""nuScenes' names (categories, attributes, visibility levels) and the sizes of its objects.

Sizes are the per-class means and spreads of w, l, h of the nuScenes training annotations, rounded.
"""

from __future__ import annotations

import dataclasses

import numpy as np

CATEGORIES = (
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.wheelchair",
    "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.construction_worker",
    "animal",
    "vehicle.car",
    "vehicle.motorcycle",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.truck",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.trailer",
    "movable_object.barrier",
    "movable_object.trafficcone",
    "movable_object.pushable_pullable",
    "movable_object.debris",
    "static_object.bicycle_rack",
)
ATTRIBUTES = {
    "vehicle.moving": "Vehicle is moving.",
    "vehicle.stopped": "Vehicle, with a driver in it, is standing but has an intent to move.",
    "vehicle.parked": "Vehicle is standing (usually for a long time) with no immediate intent to move.",
    "cycle.with_rider": "There is a rider on the bicycle or motorcycle.",
    "cycle.without_rider": "There is no rider on the bicycle or motorcycle.",
    "pedestrian.sitting_lying_down": "The person is sitting or lying down.",
    "pedestrian.standing": "The person is standing.",
    "pedestrian.moving": "The person is moving.",
}
VISIBILITY = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}


def visibility_level(share: float) -> str:
    """nuScenes visibility token of the visible share (0 to 1) of an object over all cameras."""
    return "1" if share < 0.4 else "2" if share < 0.6 else "3" if share < 0.8 else "4"


@dataclasses.dataclass(frozen=True)
class SizeStatistics:
    """Mean and spread of one kind's box: (w, l, h) [m]; ``tie`` is the share of the spread common to all three."""

    mean_wlh_m: tuple[float, float, float]
    spread_wlh_m: tuple[float, float, float]
    tie: float = 0.7

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """(3,) size (w, l, h) [m]: normal, cut at two spreads."""
        common, own = random.normal(), random.normal(size=3)
        z = np.clip(self.tie * common + np.sqrt(1 - self.tie**2) * own, -2, 2)
        return np.array(self.mean_wlh_m) + z * np.array(self.spread_wlh_m)


SIZES = {
    "vehicle.car": SizeStatistics((1.95, 4.62, 1.73), (0.17, 0.42, 0.21)),
    "vehicle.truck": SizeStatistics((2.51, 6.93, 2.84), (0.26, 1.35, 0.48)),
    "vehicle.bus.rigid": SizeStatistics((2.94, 11.09, 3.45), (0.17, 1.15, 0.29)),
    "vehicle.bus.bendy": SizeStatistics((2.95, 13.6, 3.45), (0.12, 0.9, 0.25)),
    "vehicle.trailer": SizeStatistics((2.87, 12.0, 3.80), (0.17, 1.9, 0.28)),
    "vehicle.construction": SizeStatistics((2.80, 6.45, 3.16), (0.28, 1.0, 0.45)),
    "vehicle.motorcycle": SizeStatistics((0.77, 2.11, 1.46), (0.12, 0.20, 0.14)),
    "vehicle.bicycle": SizeStatistics((0.61, 1.72, 1.30), (0.09, 0.15, 0.17)),
    "human.pedestrian.adult": SizeStatistics((0.67, 0.73, 1.77), (0.10, 0.15, 0.12)),
    "human.pedestrian.child": SizeStatistics((0.51, 0.53, 1.37), (0.07, 0.09, 0.12)),
    "human.pedestrian.police_officer": SizeStatistics((0.70, 0.74, 1.79), (0.09, 0.12, 0.09)),
    "human.pedestrian.construction_worker": SizeStatistics((0.71, 0.75, 1.76), (0.09, 0.14, 0.10)),
    "movable_object.trafficcone": SizeStatistics((0.41, 0.41, 1.07), (0.07, 0.07, 0.22), tie=0.9),
    "movable_object.barrier": SizeStatistics((2.49, 0.50, 0.98), (0.35, 0.10, 0.09)),
    "movable_object.pushable_pullable": SizeStatistics((0.60, 0.67, 1.06), (0.08, 0.10, 0.10)),
}
