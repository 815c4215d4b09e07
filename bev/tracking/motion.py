"""How objects move: constant velocity, and constant turn rate and speed.

Both have five state components and observe the first ones directly (H is a part of the identity), so a filter can hold
objects of either in one table. Plane components are in the global frame.

=================  ==================================  ===================================  =======================
model              state x                             measured z                           for
=================  ==================================  ===================================  =======================
constant velocity  x, y [m], vx, vy [m/s], yaw [rad]   x, y, vx, vy, yaw                    pedestrians
turn rate          x, y [m], yaw [rad], v [m/s],       x, y, yaw, v (speed along yaw)       vehicles, cycles
                   w [rad/s]
=================  ==================================  ===================================  =======================

Bar-Shalom et al. (2001), sections 6.2.2 (discretised white noise acceleration) and 11.7 (coordinated turn).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bev.tracking.kalman import Gaussian

STATE = 5
# Below this turn rate the straight line is exact to rounding, and the arc's formula divides by nearly zero.
_STRAIGHT_RADPS = 1e-4


@dataclass(frozen=True)
class MotionNoise:
    """Standard deviations of what the models do not know.

    Attributes:
        acceleration_mps2: along each axis, or along the heading.
        turn_radps2: of the turn rate, by second.
        yaw_radps: of the heading where the model does not turn it, by root second.
        position_m, yaw_rad, velocity_mps: of a detection.
        start_mps, start_radps: of the speed (where a first detection has none) and of the turn rate of a new track.
    """

    acceleration_mps2: float = 1.5
    turn_radps2: float = 0.6
    yaw_radps: float = 0.5
    position_m: float = 0.5
    yaw_rad: float = 0.2
    velocity_mps: float = 1.0
    start_mps: float = 6.0
    start_radps: float = 0.3


class MotionModel(Protocol):
    """What a filter needs of a model."""

    observe: np.ndarray
    """(Z, 5) H."""

    yaw: int
    """Position of the heading in state and measurement."""

    def measurement(self, center_m: np.ndarray, yaw_rad: np.ndarray, velocity_mps: np.ndarray) -> np.ndarray:
        """(N, Z) from (N, 2) positions, (N,) headings and (N, 2) velocities, NaN where a velocity is not known."""

    def measurement_noise(self, noise: MotionNoise) -> np.ndarray:
        """(Z, Z) R."""

    def start(self, measured: np.ndarray, noise: MotionNoise) -> Gaussian:
        """States from first measurements (N, Z)."""

    def step(self, state: np.ndarray, dt_s: float, noise: MotionNoise) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """f(x) (N, 5), its Jacobian F (N, 5, 5) and Q (N, 5, 5) for (N, 5) states."""

    def velocity(self, state: np.ndarray) -> np.ndarray:
        """(N, 2) m/s of (N, 5) states."""


class ConstantVelocity:
    """Straight on; the acceleration is white noise, the heading drifts."""

    observe = np.eye(STATE)
    yaw = 4

    def measurement(self, center_m: np.ndarray, yaw_rad: np.ndarray, velocity_mps: np.ndarray) -> np.ndarray:
        """See :class:`MotionModel`."""
        return np.concatenate([center_m, velocity_mps, yaw_rad[:, None]], 1)

    def measurement_noise(self, noise: MotionNoise) -> np.ndarray:
        """See :class:`MotionModel`."""
        return np.diag(np.square([noise.position_m] * 2 + [noise.velocity_mps] * 2 + [noise.yaw_rad]))

    def start(self, measured: np.ndarray, noise: MotionNoise) -> Gaussian:
        """See :class:`MotionModel`."""
        known = np.isfinite(measured)
        variance = np.tile(np.diag(self.measurement_noise(noise)), (len(measured), 1))
        variance[:, 2:4] = np.where(known[:, 2:4], variance[:, 2:4], noise.start_mps**2)
        return Gaussian(np.where(known, measured, 0.0), variance[:, :, None] * np.eye(STATE))

    def step(self, state: np.ndarray, dt_s: float, noise: MotionNoise) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :class:`MotionModel`."""
        transition = np.eye(STATE)
        transition[0, 2] = transition[1, 3] = dt_s
        push = np.array([[dt_s**2 / 2, 0], [0, dt_s**2 / 2], [dt_s, 0], [0, dt_s], [0, 0]])
        q = push @ push.T * noise.acceleration_mps2**2
        q[4, 4] = noise.yaw_radps**2 * dt_s
        shape = (len(state), STATE, STATE)
        return state @ transition.T, np.broadcast_to(transition, shape), np.broadcast_to(q, shape)

    def velocity(self, state: np.ndarray) -> np.ndarray:
        """See :class:`MotionModel`."""
        return state[:, 2:4]


class ConstantTurnRate:
    """Along an arc: speed and turn rate stay, their changes are white noise."""

    observe = np.eye(4, STATE)
    yaw = 2

    def measurement(self, center_m: np.ndarray, yaw_rad: np.ndarray, velocity_mps: np.ndarray) -> np.ndarray:
        """See :class:`MotionModel`."""
        speed = velocity_mps[:, 0] * np.cos(yaw_rad) + velocity_mps[:, 1] * np.sin(yaw_rad)
        return np.concatenate([center_m, yaw_rad[:, None], speed[:, None]], 1)

    def measurement_noise(self, noise: MotionNoise) -> np.ndarray:
        """See :class:`MotionModel`."""
        return np.diag(np.square([noise.position_m] * 2 + [noise.yaw_rad, noise.velocity_mps]))

    def start(self, measured: np.ndarray, noise: MotionNoise) -> Gaussian:
        """See :class:`MotionModel`."""
        known = np.isfinite(measured)
        mean, variance = np.zeros((2, len(measured), STATE))
        mean[:, :4] = np.where(known, measured, 0.0)
        variance[:, :4] = np.diag(self.measurement_noise(noise))
        variance[:, 3] = np.where(known[:, 3], variance[:, 3], noise.start_mps**2)
        variance[:, 4] = noise.start_radps**2
        return Gaussian(mean, variance[:, :, None] * np.eye(STATE))

    def step(self, state: np.ndarray, dt_s: float, noise: MotionNoise) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :class:`MotionModel`.

        With the turn a = w dt the object moves by its chord: v dt sinc(a / 2) in the direction yaw + a / 2.
        """
        yaw, speed, rate = state[:, 2], state[:, 3], np.where(np.abs(state[:, 4]) < _STRAIGHT_RADPS, 0.0, state[:, 4])
        half = rate * dt_s / 2
        # d sinc / d half, whose limit at 0 is 0; np.sinc has a pi inside.
        sinc = np.sinc(half / np.pi)
        safe = np.where(half == 0, 1.0, half)
        slope = np.where(half == 0, 0.0, (np.cos(half) - sinc) / safe)
        chord, direction = speed * dt_s * sinc, yaw + half
        cos, sin = np.cos(direction), np.sin(direction)
        moved = state.copy()
        moved[:, 0] += chord * cos
        moved[:, 1] += chord * sin
        moved[:, 2] += state[:, 4] * dt_s
        transition = np.tile(np.eye(STATE), (len(state), 1, 1))
        by_rate = speed * dt_s * slope * dt_s / 2
        transition[:, 0, 2], transition[:, 1, 2] = -chord * sin, chord * cos
        transition[:, 0, 3], transition[:, 1, 3] = dt_s * sinc * cos, dt_s * sinc * sin
        transition[:, 0, 4] = by_rate * cos - chord * sin * dt_s / 2
        transition[:, 1, 4] = by_rate * sin + chord * cos * dt_s / 2
        transition[:, 2, 4] = dt_s
        return moved, transition, self._noise(direction, dt_s, noise)

    def _noise(self, direction: np.ndarray, dt_s: float, noise: MotionNoise) -> np.ndarray:
        """(N, 5, 5): a constant acceleration along the heading and one of the turn, over the step."""
        push, far = np.zeros((len(direction), STATE, 2)), dt_s**2 / 2
        push[:, 0, 0], push[:, 1, 0], push[:, 3, 0] = far * np.cos(direction), far * np.sin(direction), dt_s
        push[:, 2, 1], push[:, 4, 1] = far, dt_s
        strength = np.diag([noise.acceleration_mps2**2, noise.turn_radps2**2])
        return push @ strength @ push.transpose(0, 2, 1)

    def velocity(self, state: np.ndarray) -> np.ndarray:
        """See :class:`MotionModel`."""
        return state[:, 3:4] * np.stack([np.cos(state[:, 2]), np.sin(state[:, 2])], 1)
