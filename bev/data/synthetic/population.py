"""Who is in a scene: bodies with their tracks, placed so that nothing ever touches anything else."""

from __future__ import annotations

import dataclasses
from typing import Callable, NamedTuple

import numpy as np

from bev.data.synthetic import people, street, vehicles
from bev.data.synthetic.shapes import Mesh, Solid, compile_mesh
from bev.data.synthetic.taxonomy import SIZES

Builder = Callable[..., list[Solid]]
BUILDERS: dict[str, Builder] = {
    "vehicle.car": vehicles.car,
    "vehicle.truck": vehicles.truck,
    "vehicle.bus.rigid": vehicles.bus,
    "vehicle.bus.bendy": vehicles.bendy_bus,
    "vehicle.trailer": vehicles.trailer,
    "vehicle.construction": vehicles.construction,
    "vehicle.motorcycle": people.motorcycle,
    "vehicle.bicycle": people.bicycle,
    "human.pedestrian.adult": people.pedestrian,
    "human.pedestrian.child": people.pedestrian,
    "human.pedestrian.construction_worker": people.worker,
    "human.pedestrian.police_officer": people.police,
    "movable_object.trafficcone": street.cone,
    "movable_object.barrier": street.barrier,
    "movable_object.pushable_pullable": street.cart,
}
CLEARANCE_M = 0.12
MOVING_MPS = 0.25  # slower counts as standing


class Manner(NamedTuple):
    """nuScenes attributes of a body: while it stands and while it moves; "" for things without attributes."""

    still: str = ""
    moving: str = ""


@dataclasses.dataclass
class Body:
    """One thing of the scene.

    Attributes:
        category: nuScenes category, or "" for the unlabelled street.
        size: (w, l, h) [m]. mesh: its shape in its own frame.
        track: (T, 3) x, y [m], heading [rad] in the city frame on the scene's time grid.
        manner: its attributes: of a standing car, say, whether a driver waits in it.
    """

    category: str
    size: np.ndarray
    mesh: Mesh
    track: np.ndarray
    manner: Manner = Manner()

    @property
    def static(self) -> bool:
        """Whether it stands all the time."""
        return bool(np.ptp(self.track[:, :2], axis=0).max() < 0.02)


def discs(size: np.ndarray, track: np.ndarray, clearance: float = CLEARANCE_M) -> tuple[np.ndarray, float]:
    """Discs that cover a box along its track: centres (T, D, 2) [m] and their common radius [m]."""
    w, l = float(size[0]), float(size[1])
    long, wide = max(l, w), min(l, w)
    count = max(1, int(np.ceil(2 * long / wide)))
    step = long / count
    offsets = (np.arange(count) + 0.5) * step - long / 2
    heading = track[:, 2] + (0.0 if l >= w else np.pi / 2)
    axis = np.stack([np.cos(heading), np.sin(heading)], 1)
    return track[:, None, :2] + offsets[None, :, None] * axis[:, None], float(np.hypot(step, wide) / 2 + clearance)


class Population:
    """The bodies of a scene. `add` refuses one that would touch another at any time."""

    def __init__(self, random: np.random.Generator, times: np.ndarray) -> None:
        self.random, self.times = random, times
        self.bodies: list[Body] = []
        self._middles: list[np.ndarray] = []
        self._reach: list[float] = []
        self._discs: list[tuple[np.ndarray, float]] = []

    def _free(self, size: np.ndarray, track: np.ndarray) -> bool:
        """Whether a box on a track keeps clear of everybody; checked every second grid time."""
        if not self._middles:
            return True
        reach = float(np.hypot(size[0], size[1])) / 2
        gap = (
            np.linalg.norm(np.stack(self._middles) - track[None, ::2, :2], axis=2).min(1)
            - np.array(self._reach)
            - reach
        )
        near = np.flatnonzero(gap < 2 * CLEARANCE_M)
        if not len(near):
            return True
        own, radius = discs(size, track[::2])
        for k in near:
            other, other_radius = self._discs[k]
            d = own[:, :, None] - other[:, None]
            if np.einsum("tabk,tabk->tab", d, d).min() < (radius + other_radius) ** 2:
                return False
        return True

    def reserve(self, size: np.ndarray, track: np.ndarray) -> None:
        """Keep everybody out of a box's way (the ego vehicle's)."""
        self._middles.append(track[::2, :2])
        self._reach.append(float(np.hypot(size[0], size[1])) / 2)
        self._discs.append(discs(size, track[::2]))

    def still_track(self, x: float, y: float, heading: float) -> np.ndarray:
        """(T, 3) track of something that stands."""
        return np.tile([x, y, heading], (len(self.times), 1))

    def fits(self, size: np.ndarray, track: np.ndarray) -> bool:
        """Whether `add` would accept a box of this size on this track."""
        return self._free(size, track)

    def add(
        self,
        category: str,
        size: np.ndarray,
        track: np.ndarray,
        manner: Manner = Manner(),
        builder: Builder | None = None,
        **look: object,
    ) -> bool:
        """Add a body if its way is free; its shape is drawn only then. Returns whether it was added."""
        if not self._free(size, track):
            return False
        w, l, h = (float(v) for v in size)
        mesh = compile_mesh((builder or BUILDERS[category])(self.random, w, l, h, **look))
        self.bodies.append(Body(category, size, mesh, track, manner))
        self.reserve(size, track)
        return True

    def size(self, category: str, taller: float = 0.0) -> np.ndarray:
        """A random box (w, l, h) [m] of a category."""
        return SIZES[category].draw(self.random) + np.array([0.0, 0.0, taller])
