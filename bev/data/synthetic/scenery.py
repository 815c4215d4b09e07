"""The unlabelled street: houses, trees, posts, hedges, cabinets."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np

from bev.data.synthetic import paths
from bev.data.synthetic.paths import MAIN_EAST, MAIN_WEST, Road, cross_road
from bev.data.synthetic.population import Builder
from bev.data.synthetic.stage import Stage
from bev.data.synthetic.street import cabinet, hedge, house, post, tree


def houses(stage: Stage) -> None:
    """Rows of houses along all streets near the route."""
    low, high = stage.ego[:, 0].min() - 95, stage.ego[:, 0].max() + 95
    for road in (MAIN_EAST, MAIN_WEST):
        ends = (low, high) if road is MAIN_EAST else (-high, -low)
        _row(stage, road, *ends)
    y_low, y_high = stage.ego[:, 1].min() - 90, stage.ego[:, 1].max() + 90
    for crossing in stage.streets.crossings:
        if low + 30 < crossing < high - 30:
            _row(stage, cross_road(crossing, True), y_low, y_high)
            _row(stage, cross_road(crossing, False), -y_high, -y_low)


def _row(stage: Stage, road: Road, low: float, high: float) -> None:
    """Houses along one side of a road, with gaps that are yards."""
    along = low
    while along < high:
        front, depth = stage.between(9, 24), stage.between(8, 15)
        height = float(
            stage.random.choice(
                [stage.random.uniform(4, 8), stage.random.uniform(8, 16), stage.random.uniform(16, 32)],
                p=[0.3, 0.45, 0.25],
            )
        )
        main = road in (MAIN_EAST, MAIN_WEST)
        middle = float(road.place(along + front / 2, 0.0)[0 if main else 1])
        if stage.random.random() < 0.68 and stage.streets.clear_of_crossings(
            middle, main, paths.PAVEMENT_END_M + front / 2
        ):
            lateral = paths.PAVEMENT_END_M + float(stage.random.choice([0.7, 1.5, 5.0])) + depth / 2
            size = np.array([depth, front - 1.5, height])
            stage.people.add("", size, stage.still(road, along + front / 2, lateral), builder=house)
        along += front


@dataclasses.dataclass(frozen=True)
class Furniture:
    """One kind: how many on 100 m, how far from the road's middle [m], and its size: ``base`` (w, l, h) [m] times a
    common factor, or each drawn between ``base`` and ``largest``."""

    builder: Builder
    count: float
    lateral: tuple[float, float]
    base: tuple[float, float, float]
    largest: tuple[float, float, float] | None = None
    factor: tuple[float, float] = (1.0, 1.0)

    def size(self, stage: Stage) -> np.ndarray:
        """(3,) a random size (w, l, h) [m]."""
        size = np.array(self.base) if self.largest is None else stage.random.uniform(self.base, self.largest)
        return size * stage.between(*self.factor)


FURNITURE = (
    Furniture(post, 7.0, (9.8, 9.9), (0.5, 0.7, 3.0), largest=(0.5, 0.7, 7.5)),
    Furniture(tree, 7.0, (12.3, 12.9), (1.0, 1.0, 2.0), factor=(1.6, 2.3)),
    Furniture(tree, 5.0, (16.0, 34.0), (1.0, 1.0, 1.7), factor=(2.5, 5.0)),
    Furniture(hedge, 4.0, (14.2, 15.5), (0.7, 3.0, 0.6), largest=(0.7, 10.0, 1.5)),
    Furniture(cabinet, 2.5, (12.6, 13.2), (0.5, 0.6, 1.0), largest=(1.0, 2.2, 2.3)),
)


def furniture(stage: Stage) -> None:
    """Street trees, posts, cabinets, hedges and trees in yards."""
    for kind in FURNITURE:
        stage.repeat(int(kind.count * (stage.units + 0.75)), partial(_place, stage, kind), tries=2)


def _place(stage: Stage, kind: Furniture) -> bool:
    road, along = stage.spot(margin=14.0, reach=75.0)
    return stage.people.add(
        "", kind.size(stage), stage.still(road, along, stage.between(*kind.lateral)), builder=kind.builder
    )
