"""Other ways in which the same numbers could have been meant: each undoes one known mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from bev.data.checks.table import BoxTable


@dataclass(frozen=True)
class Reading:
    """A way to read boxes.

    Attributes:
        mistakes: names of what went wrong if this reading is right; empty for the boxes as they are.
        meaning: for people.
        apply: boxes as they were read -> as they would be meant.
    """

    mistakes: tuple[str, ...]
    meaning: str
    apply: Callable[[BoxTable], BoxTable]


def _turned(sign: int, quarters: int, swap: bool) -> Callable[[BoxTable], BoxTable]:
    def apply(boxes: BoxTable) -> BoxTable:
        size = boxes.size_m[:, [1, 0, 2]] if swap else boxes.size_m
        return replace(boxes, size_m=size, yaw_rad=sign * boxes.yaw_rad + quarters * np.pi / 2)

    return apply


def _framed(read: str, meant: str, velocity_only: bool) -> Callable[[BoxTable], BoxTable]:
    def apply(boxes: BoxTable) -> BoxTable:
        from_lidar = {
            "LiDAR": np.broadcast_to(np.eye(4), boxes.ego_from_lidar.shape),
            "ego": np.linalg.inv(boxes.ego_from_lidar),
            "global": np.linalg.inv(boxes.global_from_lidar),
        }
        matrix = from_lidar[meant] @ np.linalg.inv(from_lidar[read])
        return boxes.with_moved_velocity(matrix) if velocity_only else boxes.moved(matrix)

    return apply


def _lifted(share: float) -> Callable[[BoxTable], BoxTable]:
    def apply(boxes: BoxTable) -> BoxTable:
        return replace(boxes, center_m=boxes.center_m + boxes.size_m * [0, 0, share])

    return apply


def _turn_text(sign: int, quarters: int, swap: bool) -> str:
    if (sign, quarters, swap) == (-1, 3, True):
        return "as mmdet3d < 1.0 has them: w, l, h and a yaw of -heading - pi/2 in the LiDAR frame"
    yaw = "yaw" if sign > 0 else "-yaw"
    angle = {0: "", 1: " + pi/2", 2: " + pi", 3: " - pi/2"}[quarters]
    return f"{'w, l, h and ' if swap else ''}a heading of {yaw}{angle} in the LiDAR frame"


AS_READ = Reading((), "as they are read", lambda boxes: boxes)


def _all_readings() -> tuple[Reading, ...]:
    """The likelier before the less likely: among equals, the first one is taken."""
    turns = [(-1, 3, True), (1, 0, True), *((s, q, False) for s, q in product((1, -1), range(4)))]
    turns += [(s, q, True) for s, q in product((1, -1), range(4)) if (s, q, True) not in turns]
    readings = [AS_READ]
    for sign, quarters, swap in turns:
        names = ("size_order",) * swap + ("yaw_convention",) * ((sign, quarters) != (1, 0))
        if names:
            readings.append(Reading(names, _turn_text(sign, quarters, swap), _turned(sign, quarters, swap)))
    readings.append(Reading(("box_height",), "with heights of bottom faces that were taken for centres", _lifted(0.5)))
    readings.append(Reading(("box_height",), "with heights of centres that were taken for bottom faces", _lifted(-0.5)))
    for read, meant in product(("LiDAR", "ego", "global"), repeat=2):
        if read != meant:
            text = f"{meant} coordinates that were taken for {read} ones"
            readings.append(Reading(("box_frame",), text, _framed(read, meant, velocity_only=False)))
            text = f"with velocities of the {meant} frame that were taken for {read} ones"
            readings.append(Reading(("velocity_frame",), text, _framed(read, meant, velocity_only=True)))
    return tuple(readings)


READINGS = _all_readings()
