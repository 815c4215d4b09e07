"""The stage of a scene: the streets around the ego vehicle's route, and how to find places on them."""

from __future__ import annotations

from typing import Callable

import numpy as np

from bev.data.synthetic.paths import MAIN_EAST, MAIN_WEST, Road, Streets, cross_road
from bev.data.synthetic.population import Manner, Population

TRAFFIC = Manner("vehicle.stopped", "vehicle.moving")
PARKED = Manner("vehicle.parked", "vehicle.moving")
WALKER = Manner("pedestrian.standing", "pedestrian.moving")
SITTER = Manner("pedestrian.sitting_lying_down", "pedestrian.moving")
RIDDEN = Manner("cycle.with_rider", "cycle.with_rider")
RIDERLESS = Manner("cycle.without_rider", "cycle.with_rider")


class Stage:
    """Where bodies can be put.

    Attributes:
        people: the population that is filled. streets: the street grid.
        ego: (T, 3) x, y [m], heading [rad] of the ego vehicle in the city frame, at ``times`` (T,) [s].
        units: length of street that the ego vehicle comes near, in units of 100 m.
        traffic: factor on the mean numbers of vehicles and people.
    """

    def __init__(self, people: Population, streets: Streets, ego: np.ndarray, traffic: float = 1.0) -> None:
        self.people, self.streets, self.ego = people, streets, ego
        self.random, self.times = people.random, people.times
        driven = float(np.linalg.norm(np.diff(ego[:, :2], axis=0), axis=1).sum())
        self.units, self.traffic = (driven + 75.0) / 100.0, traffic

    def count(self, per_unit: float) -> int:
        """A random number of bodies, for their mean on 100 m of street in ordinary traffic."""
        return int(self.random.poisson(per_unit * self.units * self.traffic))

    def repeat(self, count: int, attempt: Callable[[], bool], tries: int = 5) -> int:
        """Do something ``count`` times, each time with up to ``tries`` attempts; returns how often it was done."""
        return sum(any(attempt() for _ in range(tries)) for _ in range(count))

    def between(self, low: float, high: float) -> float:
        """A random number from a range."""
        return float(self.random.uniform(low, high))

    def any_angle(self) -> float:
        """A random angle [rad]."""
        return float(self.random.uniform(-np.pi, np.pi))

    def road(self, x: float, main_share: float = 0.72) -> Road:
        """A road and driving direction near x."""
        if self.random.random() < main_share:
            return MAIN_EAST if self.random.random() < 0.5 else MAIN_WEST
        nearest = min(self.streets.crossings, key=lambda c: abs(c - x))
        return cross_road(nearest, bool(self.random.random() < 0.5))

    def spot(self, early: bool = False, margin: float = 15.0, reach: float = 42.0) -> tuple[Road, float]:
        """A road and a place along it near a random moment of the ego's drive (or near its start)."""
        for _ in range(50):
            pose = self.ego[0] if early else self.ego[int(self.random.integers(len(self.ego)))]
            on_main = abs(pose[1]) < 12
            road = self.road(pose[0], 1.0 if early else 0.8 if on_main else 0.3)
            middle = float((pose[:2] - np.array(road.origin)) @ road.forward)
            low, high = (-reach, reach)
            if early:
                low, high = (4.0, 26.0) if road is not MAIN_WEST else (-26.0, -4.0)
            along = middle + float(self.random.uniform(low, high))
            main = road in (MAIN_EAST, MAIN_WEST)
            city_along = float(road.place(along, 0.0)[0 if main else 1])
            if self.streets.clear_of_crossings(city_along, main, margin):
                return road, along
        return road, along

    def still(self, road: Road, along: float, lateral: float, turn: float = 0.0) -> np.ndarray:
        """(T, 3) track of something that stands ``lateral`` m to the right of a road, turned off its heading."""
        x, y = road.place(along, lateral)
        return self.people.still_track(float(x), float(y), road.heading + turn)
