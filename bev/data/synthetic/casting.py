"""The cast of a scene: how many of whom, standing and moving where."""
from __future__ import annotations

import dataclasses

import numpy as np

from bev.data.synthetic import paths
from bev.data.synthetic.paths import MAIN_EAST, MAIN_WEST, Path, Road, Streets, cross_road, lane_path, speed_profile
from bev.data.synthetic.population import Population
from bev.data.synthetic.street import cabinet, hedge, house, post, tree

VEHICLE = {"still": "vehicle.parked", "moving": "vehicle.moving"}
TRAFFIC = {"still": "vehicle.stopped", "moving": "vehicle.moving"}
WALKER = {"still": "pedestrian.standing", "moving": "pedestrian.moving"}
BUSES = ("vehicle.bus.rigid", "vehicle.bus.rigid", "vehicle.bus.rigid", "vehicle.bus.bendy")
WALKERS = ("human.pedestrian.adult",) * 7 + ("human.pedestrian.child", "human.pedestrian.police_officer",
                                             "human.pedestrian.construction_worker")


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
    parked={"vehicle.car": 4.2, "vehicle.truck": 1.1, "vehicle.bus": 1.0, "vehicle.trailer": 1.5,
            "vehicle.construction": 0.5, "vehicle.motorcycle": 1.0, "vehicle.bicycle": 1.8},
    driving={"vehicle.car": 5.4, "vehicle.truck": 0.7, "semi": 0.7, "vehicle.bus": 1.4, "vehicle.construction": 0.5,
             "vehicle.motorcycle": 1.5, "vehicle.bicycle": 1.8})


class Director:
    """Fills a population around the ego vehicle's track (T, 3) in the city frame."""

    def __init__(self, population: Population, streets: Streets, ego_track: np.ndarray) -> None:
        self.people, self.streets, self.ego = population, streets, ego_track
        self.random, self.times = population.random, population.times
        driven = float(np.linalg.norm(np.diff(ego_track[:, :2], axis=0), axis=1).sum())
        self.units = (driven + 75.0) / 100.0

    def fill(self) -> None:
        """Houses first, then one of every class near the start, then the rest."""
        self._buildings()
        for kind in ("vehicle.trailer", "vehicle.bus", "vehicle.truck", "vehicle.car", "vehicle.motorcycle", "vehicle.bicycle"):
            self._repeat(1, lambda: self._park(kind, early=True), tries=40)
        self._repeat(1, lambda: self._work_site(early=True), tries=40)
        for attempt in (self._stand, self._lone_cone, self._barrier_line):
            self._repeat(1, lambda: attempt(early=True), tries=40)
        order = [k for kind, n in CAST.driving.items() for k in [kind] * self._count(n)]
        for index in self.random.permutation(len(order)):
            self._repeat(1, lambda: self._drive(order[index]), tries=6)
        self._repeat(self._count(CAST.work_sites) - 1, self._work_site)
        self._repeat(self._count(CAST.barrier_rows), self._barrier_line)
        for kind, n in CAST.parked.items():
            self._repeat(self._count(n), lambda: self._park(kind))
        self._repeat(self._count(CAST.walking_people), self._walk)
        self._repeat(self._count(CAST.standing_people), self._stand)
        self._repeat(self._count(CAST.sitting_people), self._sit)
        self._repeat(self._count(CAST.lone_cones), self._lone_cone)
        self._repeat(self._count(CAST.carts), self._cart)
        self._furniture()

    def _count(self, per_unit: float) -> int:
        return int(self.random.poisson(per_unit * self.units))

    def _repeat(self, count: int, attempt: object, tries: int = 5) -> None:
        for _ in range(count):
            if any(attempt() for _ in range(tries)):  # type: ignore[operator]
                continue

    # --- places ---------------------------------------------------------------------------------------------------

    def _road(self, x: float, main_share: float = 0.72) -> Road:
        """A road and driving direction near x."""
        if self.random.random() < main_share:
            return MAIN_EAST if self.random.random() < 0.5 else MAIN_WEST
        nearest = min(self.streets.crossings, key=lambda c: abs(c - x))
        return cross_road(nearest, bool(self.random.random() < 0.5))

    def _spot(self, early: bool = False, margin: float = 15.0, reach: float = 42.0) -> tuple[Road, float]:
        """A road and a place along it near a random moment of the ego's drive (or near its start)."""
        for _ in range(50):
            pose = self.ego[0] if early else self.ego[int(self.random.integers(len(self.ego)))]
            on_main = abs(pose[1]) < 12
            road = self._road(pose[0], 1.0 if early else 0.8 if on_main else 0.3)
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

    def _still(self, road: Road, along: float, lateral: float, turn: float = 0.0) -> np.ndarray:
        x, y = road.place(along, lateral)
        return self.people.still_track(float(x), float(y), road.heading + turn)

    # --- who stands -----------------------------------------------------------------------------------------------

    def _kind(self, kind: str) -> str:
        return str(self.random.choice(BUSES)) if kind == "vehicle.bus" else kind

    def _park(self, kind: str, early: bool = False) -> bool:
        """At the curb, on the pavement (two wheels) or at any angle in a yard behind it."""
        category = self._kind(kind)
        road, along = self._spot(early)
        u = self.random.random()
        if category in ("vehicle.motorcycle", "vehicle.bicycle"):
            size = self.people.size(category, -0.16 if category == "vehicle.motorcycle" else -0.12)
            lateral, turn = (PARK_EDGE, float(self.random.normal(np.pi / 2, 0.3))) if u < 0.4 else \
                (float(self.random.uniform(9.9, 12.5)), float(self.random.uniform(-np.pi, np.pi)))
            return self.people.add(category, size, self._still(road, along, lateral, turn),
                                   still="cycle.without_rider", moving="cycle.with_rider")
        size, large = self.people.size(category), category != "vehicle.car"
        if u < (0.45 if large else 0.22) and not early:
            lateral, turn = float(self.random.uniform(16, 30)), float(self.random.uniform(-np.pi, np.pi))
        else:
            lateral = paths.PARKING_M + max(0.0, size[0] - 2.3) / 2 + float(self.random.normal(0, 0.08))
            turn = float(self.random.normal(0, 0.03)) + (np.pi if self.random.random() < 0.08 else 0.0)
        return self.people.add(category, size, self._still(road, along, lateral, turn), **VEHICLE)

    def _person(self, track: np.ndarray, walks: bool) -> bool:
        category = str(self.random.choice(WALKERS))
        stride = float(self.random.uniform(0.12, 0.3)) if walks else 0.03
        return self.people.add(category, self.people.size(category), track, stride=stride, **WALKER)

    def _stand(self, early: bool = False) -> bool:
        road, along = self._spot(early, margin=11.0)
        lateral = float(self.random.uniform(10.0, 12.0))
        return self._person(self._still(road, along, lateral, float(self.random.uniform(-np.pi, np.pi))), walks=False)

    def _sit(self) -> bool:
        from bev.data.synthetic.people import sitter
        road, along = self._spot(margin=12.0)
        size = np.array([0.62, 0.85, 1.28]) * self.random.uniform(0.94, 1.06)
        track = self._still(road, along, float(self.random.uniform(11.5, 13.2)), float(self.random.uniform(-np.pi, np.pi)))
        return self.people.add("human.pedestrian.adult", size, track, sitter, still="pedestrian.sitting_lying_down",
                               moving="pedestrian.moving")

    def _lone_cone(self, early: bool = False) -> bool:
        road, along = self._spot(early, reach=28.0)
        lateral = float(self.random.choice([6.95, 9.2, 10.2]) + self.random.normal(0, 0.15))
        category = "movable_object.trafficcone"
        return self.people.add(category, self.people.size(category), self._still(road, along, lateral, self._any_angle()))

    def _any_angle(self) -> float:
        return float(self.random.uniform(-np.pi, np.pi))

    def _cart(self) -> bool:
        road, along = self._spot()
        category = "movable_object.pushable_pullable"
        return self.people.add(category, self.people.size(category),
                               self._still(road, along, float(self.random.uniform(11.8, 13.0)), self._any_angle()))

    def _work_site(self, early: bool = False) -> bool:
        """A machine on the parking lane behind a taper of cones and a row of barriers, with workers."""
        road, along = self._spot(early, margin=22.0, reach=30.0)
        category = "vehicle.construction"
        size = self.people.size(category)
        heading = float(self.random.normal(0, 0.25)) + (np.pi if self.random.random() < 0.3 else 0.0)
        if not self.people.add(category, size, self._still(road, along, 8.9, heading), **VEHICLE):
            return False
        half = size[1] / 2 + 2.5
        cones = np.arange(-half, half + 0.1, float(self.random.uniform(2.2, 3.4)))
        for x in cones:
            kind = "movable_object.trafficcone"
            self.people.add(kind, self.people.size(kind), self._still(road, along + x, 6.95 + float(self.random.normal(0, 0.06)), self._any_angle()))
        self._barrier_rows(road, along, half)
        for _ in range(int(self.random.integers(1, 4))):
            kind = "human.pedestrian.construction_worker"
            track = self._still(road, along + float(self.random.uniform(-half, half)), float(self.random.uniform(10.0, 12.5)), self._any_angle())
            self.people.add(kind, self.people.size(kind), track, stride=0.05, **WALKER)
        return True

    def _barrier_rows(self, road: Road, along: float, half: float) -> None:
        kind = "movable_object.barrier"
        for end in (-1, 1):
            if self.random.random() < 0.75:
                self.people.add(kind, self.people.size(kind), self._still(road, along + end * (half + 0.8), 8.35, float(self.random.normal(0, 0.1))))
        self._row_of_barriers(road, along, half, float(self.random.uniform(12.4, 13.1)))

    def _barrier_line(self, early: bool = False) -> bool:
        """Barriers along a curb, away from any work site."""
        road, along = self._spot(early, margin=16.0, reach=26.0)
        before = len(self.people.bodies)
        self._row_of_barriers(road, along, float(self.random.uniform(3, 7)), float(self.random.choice([9.9, 12.6])))
        return len(self.people.bodies) > before

    def _row_of_barriers(self, road: Road, along: float, half: float, lateral: float) -> None:
        kind, x = "movable_object.barrier", -half
        while x < half and self.random.random() < 0.93:
            size = self.people.size(kind)
            self.people.add(kind, size, self._still(road, along + x, lateral, np.pi / 2 + float(self.random.normal(0, 0.04))))
            x += size[0] + float(self.random.uniform(0.45, 0.9))

    # --- who moves ------------------------------------------------------------------------------------------------

    def _walk(self) -> bool:
        """Along a pavement, or across the road."""
        index = int(self.random.integers(len(self.ego)))
        road, along = self._spot(margin=0.0, reach=34.0)
        speed = float(np.clip(self.random.normal(1.3, 0.3), 0.6, 2.2))
        heading, lateral = road.heading, float(self.random.uniform(10.4, 11.5))
        if self.random.random() < 0.14:
            heading, lateral = road.heading + np.pi / 2, 10.6
        elif self.random.random() < 0.5:
            heading += np.pi
        x, y = road.place(along, lateral)
        path = Path((float(x), float(y)), heading)
        arc = speed_profile(self.random, self.times, speed, bool(self.random.random() < 0.2))
        return self._person(path.poses(arc - arc[index]), walks=True)

    def _drive(self, kind: str) -> bool:
        """In a lane, straight on or turning at a crossing; cycles keep right."""
        category = "vehicle.truck" if kind == "semi" else self._kind(kind)
        cycle = category in ("vehicle.motorcycle", "vehicle.bicycle")
        index = int(self.random.integers(len(self.ego)))
        pose = self.ego[index]
        road = self._road(float(pose[0]), 0.8 if abs(pose[1]) < 12 else 0.3)
        along = float((pose[:2] - np.array(road.origin)) @ road.forward) + float(self.random.uniform(-38, 38))
        inner = bool(self.random.random() < 0.5)
        lateral = paths.INNER_LANE_M if inner else paths.OUTER_LANE_M
        if category == "vehicle.bicycle":
            lateral, inner = paths.CYCLE_LANE_M - 0.1, False
        slow, fast = {"vehicle.bicycle": (2.5, 6.0), "vehicle.construction": (2.0, 5.0)}.get(category, (3.5, 11.0))
        arc = speed_profile(self.random, self.times, float(self.random.uniform(slow, fast)), bool(self.random.random() < 0.45))
        start = along - arc[index]
        path = lane_path(road, start, lateral, *self._turn(road, start, float(arc[-1]), inner, category))
        if kind == "semi":
            return self._semi(path, arc)
        if not cycle:
            return self.people.add(category, self.people.size(category), path.poses(arc), **TRAFFIC)
        size = self.people.size(category, 0.22 if category == "vehicle.motorcycle" else 0.32)
        return self.people.add(category, size, path.poses(arc), still="cycle.with_rider", moving="cycle.with_rider", rider=True)

    def _turn(self, road: Road, start: float, length: float, inner: bool, category: str) -> tuple[float | None, bool, float]:
        """Where and how a driver turns: (place along the road or None, left, radius)."""
        places = [0.0]
        if road in (MAIN_EAST, MAIN_WEST):
            places = [c if road is MAIN_EAST else -c for c in self.streets.crossings]
        ahead = [p for p in places if start + 14 < p < start + length - 4]
        if not ahead or self.random.random() < 0.45:
            return None, False, 6.0
        return ahead[0], inner, (9.0 if inner else 5.0 if category == "vehicle.bicycle" else 6.5)

    def _semi(self, path: Path, arc: np.ndarray) -> bool:
        """A tractor with its trailer behind it: both or none."""
        tractor, load = self.people.size("vehicle.truck"), self.people.size("vehicle.trailer")
        behind = arc - tractor[1] / 2 - load[1] / 2 - 0.55
        if not (self.people.fits(tractor, path.poses(arc)) and self.people.fits(load, path.poses(behind))):
            return False
        self.people.add("vehicle.trailer", load, path.poses(behind), **TRAFFIC)
        return self.people.add("vehicle.truck", tractor, path.poses(arc), **TRAFFIC)

    # --- the unlabelled street ------------------------------------------------------------------------------------

    def _buildings(self) -> None:
        low, high = self.ego[:, 0].min() - 95, self.ego[:, 0].max() + 95
        for road in (MAIN_EAST, MAIN_WEST):
            ends = (low, high) if road is MAIN_EAST else (-high, -low)
            self._row(road, *ends)
        y_low, y_high = self.ego[:, 1].min() - 90, self.ego[:, 1].max() + 90
        for crossing in self.streets.crossings:
            if low + 30 < crossing < high - 30:
                self._row(cross_road(crossing, True), y_low, y_high)
                self._row(cross_road(crossing, False), -y_high, -y_low)

    def _row(self, road: Road, low: float, high: float) -> None:
        """Houses along one side of a road, with gaps that are yards."""
        along = low
        while along < high:
            front, depth = float(self.random.uniform(9, 24)), float(self.random.uniform(8, 15))
            height = float(self.random.choice([self.random.uniform(4, 8), self.random.uniform(8, 16), self.random.uniform(16, 32)],
                                              p=[0.3, 0.45, 0.25]))
            main = road in (MAIN_EAST, MAIN_WEST)
            middle = float(road.place(along + front / 2, 0.0)[0 if main else 1])
            if self.random.random() < 0.68 and self.streets.clear_of_crossings(middle, main, paths.PAVEMENT_END_M + front / 2):
                lateral = paths.PAVEMENT_END_M + float(self.random.choice([0.7, 1.5, 5.0])) + depth / 2
                size = np.array([depth, front - 1.5, height])
                self.people.add("", size, self._still(road, along + front / 2, lateral), house)
            along += front

    def _furniture(self) -> None:
        """Street trees, posts, cabinets, hedges and trees in yards."""
        plan = ((post, 7.0, (9.8, 9.9), lambda: np.array([0.5, 0.7, self.random.uniform(3.0, 7.5)])),
                (tree, 7.0, (12.3, 12.9), lambda: np.array([1.0, 1.0, 2.0]) * self.random.uniform(1.6, 2.3)),
                (tree, 5.0, (16.0, 34.0), lambda: np.array([1.0, 1.0, 1.7]) * self.random.uniform(2.5, 5.0)),
                (hedge, 4.0, (14.2, 15.5), lambda: np.array([0.7, self.random.uniform(3, 10), self.random.uniform(0.6, 1.5)])),
                (cabinet, 2.5, (12.6, 13.2), lambda: np.array([self.random.uniform(0.5, 1.0), self.random.uniform(0.6, 2.2), self.random.uniform(1.0, 2.3)])))
        for builder, count, (a, b), size in plan:
            def attempt() -> bool:
                road, along = self._spot(margin=14.0, reach=75.0)
                return self.people.add("", size(), self._still(road, along, float(self.random.uniform(a, b))), builder)
            self._repeat(int(count * (self.units + 0.75)), attempt, tries=2)


PARK_EDGE = 8.3
