"""Where things move: the street grid, lanes with turns, and speed profiles.

City frame: the main road runs along x, cross roads along y at ``Streets.crossings``; traffic keeps to the right.
Positions [m], headings [rad] counter-clockwise from +x, times [s].
"""

from __future__ import annotations

import dataclasses

import numpy as np

INNER_LANE_M, OUTER_LANE_M, CYCLE_LANE_M, PARKING_M = 1.75, 5.25, 7.1, 8.25
CURB_M, PAVEMENT_END_M, CROSSWALK_M = 9.5, 13.5, 12.6
TIME_STEP_S = 0.1


@dataclasses.dataclass(frozen=True)
class Streets:
    """The main road (y = 0) and the x of every cross road."""

    crossings: tuple[float, ...]

    def clear_of_crossings(self, along: float, main: bool, margin_m: float) -> bool:
        """Whether a place ``along`` a road is farther than the margin from every crossing's middle."""
        middles = self.crossings if main else (0.0,)
        return all(abs(along - m) > margin_m for m in middles)


@dataclasses.dataclass(frozen=True)
class Road:
    """One direction of one road: ``origin`` (2,) on its middle line, ``heading`` its driving direction."""

    origin: tuple[float, float]
    heading: float

    @property
    def forward(self) -> np.ndarray:
        """(2,) unit vector."""
        return np.array([np.cos(self.heading), np.sin(self.heading)])

    def place(self, along: float, lateral: float) -> np.ndarray:
        """(2,) point ``along`` the road and ``lateral`` metres to the right of its middle line."""
        forward = self.forward
        return np.array(self.origin) + along * forward + lateral * np.array([forward[1], -forward[0]])


MAIN_EAST, MAIN_WEST = Road((0.0, 0.0), 0.0), Road((0.0, 0.0), np.pi)


def cross_road(crossing: float, north: bool) -> Road:
    """A cross road in one of its two driving directions."""
    return Road((crossing, 0.0), np.pi / 2 if north else -np.pi / 2)


@dataclasses.dataclass(frozen=True)
class Path:
    """A straight line, then optionally a quarter turn and another straight line.

    Attributes:
        start: (2,) [m]; heading [rad].
        turn_after: arc length [m] where the turn begins; None for no turn.
        radius: of the turn [m]. left: its sense.
    """

    start: tuple[float, float]
    heading: float
    turn_after: float | None = None
    radius: float = 6.0
    left: bool = False

    def poses(self, arc: np.ndarray) -> np.ndarray:
        """(n, 3) x, y [m] and heading [rad] at arc lengths (n,) [m]; negative ones lie before the start."""
        first = arc if self.turn_after is None else np.minimum(arc, self.turn_after)
        forward = np.array([np.cos(self.heading), np.sin(self.heading)])
        out = np.column_stack([np.array(self.start) + first[:, None] * forward, np.full(len(arc), self.heading)])
        if self.turn_after is None:
            return out
        sign = 1.0 if self.left else -1.0
        angle = np.clip((arc - self.turn_after) / self.radius, 0.0, np.pi / 2)
        side = sign * np.array([-forward[1], forward[0]])
        out[:, :2] += self.radius * (np.sin(angle)[:, None] * forward + (1 - np.cos(angle))[:, None] * side)
        out[:, :2] += np.maximum(arc - self.turn_after - self.radius * np.pi / 2, 0.0)[:, None] * side
        out[:, 2] += sign * angle
        return out


def lane_path(
    road: Road,
    along: float,
    lateral: float,
    crossing_along: float | None = None,
    left: bool = False,
    radius: float = 6.0,
) -> Path:
    """A path on a lane, from ``along``; with ``crossing_along`` it turns there into the same lane of the cross road."""
    start = tuple(road.place(along, lateral))
    if crossing_along is None:
        return Path(start, road.heading)
    # Both lanes lie ``lateral`` to the right of their middle lines; the corner is where they meet.
    corner = crossing_along + (lateral if left else -lateral)
    return Path(start, road.heading, corner - radius - along, radius, left)


def speed_profile(random: np.random.Generator, times: np.ndarray, cruise: float, stops: bool) -> np.ndarray:
    """Arc length (T,) [m] driven since times[0]: steady, or braking to a halt, waiting, and starting again."""
    speed = np.full(len(times), cruise)
    if stops:
        halt, wait = random.uniform(times[0] - 4, times[-1]), random.uniform(3, 9)
        brake, gain = random.uniform(1.5, 3.0), random.uniform(1.0, 2.2)
        before = np.sqrt(np.maximum(2 * brake * cruise * np.maximum(halt - times, 0) * 0.5, 0))
        speed = np.minimum(cruise, np.where(times < halt, before, gain * np.maximum(times - halt - wait, 0)))
    else:
        speed = speed * (1 + 0.15 * np.sin(times * random.uniform(0.1, 0.5) + random.uniform(0, 6.28)))
    return np.concatenate([[0.0], np.cumsum((speed[1:] + speed[:-1]) / 2 * np.diff(times))])
