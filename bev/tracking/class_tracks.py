"""The tracks of one class, as columns: predict, associate, update, and their life cycle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bev.tracking import kalman
from bev.tracking.association import METHODS, Pairs
from bev.tracking.kalman import Gaussian
from bev.tracking.motion import ConstantTurnRate, ConstantVelocity, MotionModel
from bev.tracking.settings import ClassTracking, TrackerSettings

_PLANE = slice(0, 2)
# Height of the centre and the three sizes wander slowly: standard deviations in m by root second, and of a detection.
_SHAPE_DRIFT_M, _SHAPE_NOISE_M = np.array([0.3, 0.02, 0.02, 0.02]), np.array([0.3, 0.3, 0.15, 0.15])
# A heading is turned by votes, so that a detector that reverses it in a few frames does not reverse the track.
_MOST_VOTES = 5.0


def wrap_angle(angle_rad: np.ndarray) -> np.ndarray:
    """Angles in [-pi, pi)."""
    return (angle_rad + np.pi) % (2 * np.pi) - np.pi


@dataclass(frozen=True, eq=False)
class Observed:
    """M detections of one class, global frame, float64.

    Attributes:
        center_m: (M, 3).
        size_m: (M, 3) length, width, height.
        yaw_rad: (M,).
        velocity_mps: (M, 2), NaN where it is not known.
        score: (M,).
    """

    center_m: np.ndarray
    size_m: np.ndarray
    yaw_rad: np.ndarray
    velocity_mps: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, rows: np.ndarray) -> Observed:
        columns = (self.center_m, self.size_m, self.yaw_rad, self.velocity_mps, self.score)
        return Observed(*(column[rows] for column in columns))


class ClassTracks:
    """N live tracks of one class.

    Args:
        setting: of the class.
        common: of the tracker.
        new_id: gives a number that no track has.
    """

    def __init__(self, setting: ClassTracking, common: TrackerSettings, new_id: Callable[[], int]) -> None:
        self._setting, self._common, self._new_id = setting, common, new_id
        self._model: MotionModel = ConstantTurnRate() if setting.motion == "turn" else ConstantVelocity()
        self._noise = self._model.measurement_noise(setting.noise)
        self.plane = Gaussian(np.zeros((0, 5)), np.zeros((0, 5, 5)))
        self.shape = Gaussian(np.zeros((0, 4)), np.zeros((0, 4, 4)))
        self.id = np.zeros(0, np.int64)
        self.hits = np.zeros(0, np.int64)
        self.unseen_s = np.zeros(0)
        self.score = np.zeros(0)
        self.votes = np.zeros(0)

    def __len__(self) -> int:
        return len(self.id)

    def predict(self, dt_s: float) -> None:
        """Move every track on by ``dt_s``; those that were not seen for too long end."""
        self._keep(self.unseen_s + dt_s <= self._common.max_age_s)
        moved, transition, noise = self._model.step(self.plane.mean, dt_s, self._setting.noise)
        self.plane = kalman.predict(self.plane, moved, transition, noise)
        still = np.broadcast_to(np.eye(4), (len(self), 4, 4))
        self.shape = kalman.predict(self.shape, self.shape.mean, still, still * _SHAPE_DRIFT_M**2 * dt_s)
        self.unseen_s = self.unseen_s + dt_s
        self.score = self.score * 0.5 ** (dt_s / self._common.score_half_life_s)

    def update(self, seen: Observed) -> np.ndarray:
        """Continue, start and end tracks.

        Returns:
            (M,) row of each detection's track among the tracks that now live, -1 where it has none.
        """
        tracks, detections = self._associate(seen)
        self._correct(tracks, seen[detections])
        alone = np.setdiff1d(np.arange(len(seen)), detections)
        alone = alone[seen.score[alone] >= self._common.start_score]
        row = np.full(len(seen), -1, np.int64)
        row[detections] = tracks
        row[alone] = len(self) + np.arange(len(alone))
        self._start(seen[alone])
        new_row = np.append(self._end_tentative(), -1)  # the last one for detections without a track
        return new_row[row]

    def _associate(self, seen: Observed) -> Pairs:
        if not len(self) or not len(seen):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        offset = seen.center_m[None, :, _PLANE] - self.plane.mean[:, None, _PLANE]
        distance = np.linalg.norm(offset, axis=2)
        expected = kalman.innovation_covariance(self.plane, self._model.observe, self._noise)[:, _PLANE, _PLANE]
        sigma2 = kalman.mahalanobis_squared(offset, expected)
        # Negative log-likelihood of the position, without its constant (Bar-Shalom et al., section 2.3.2).
        cost = distance if self._common.cost == "distance" else sigma2 + np.linalg.slogdet(expected)[1][:, None]
        allowed = (distance < self._setting.gate_m) & (sigma2 < self._common.gate_sigma**2)
        return METHODS[self._common.association](np.where(allowed, cost, np.inf))

    def _correct(self, rows: np.ndarray, seen: Observed) -> None:
        """Kalman updates of the tracks at ``rows`` with their detections."""
        before, yaw = self.plane[rows], self._model.yaw
        reversed_ = np.abs(wrap_angle(seen.yaw_rad - before.mean[:, yaw])) > np.pi / 2
        measured = self._measure(seen, seen.yaw_rad + np.pi * reversed_)
        innovation = measured - before.mean @ self._model.observe.T
        innovation[:, yaw] = wrap_angle(innovation[:, yaw])
        after = kalman.update(before, innovation, self._model.observe, self._noise, np.isfinite(measured))
        after.mean[:, yaw] = wrap_angle(after.mean[:, yaw])
        self.plane = self.plane.with_rows(rows, after)
        shape, sizes = self.shape[rows], _shape_of(seen)
        noise = np.diag(_SHAPE_NOISE_M**2)
        self.shape = self.shape.with_rows(rows, kalman.update(shape, sizes - shape.mean, np.eye(4), noise))
        self.hits[rows] += 1
        self.unseen_s[rows] = 0.0
        votes = self.votes[rows] + np.where(reversed_, -1.0, 1.0)
        self.votes[rows] = np.clip(votes, -_MOST_VOTES, _MOST_VOTES)
        self.score[rows] = 1 - (1 - self.score[rows]) * (1 - np.clip(seen.score, 0, 1))

    def _start(self, seen: Observed) -> None:
        started = self._model.start(self._measure(seen, seen.yaw_rad), self._setting.noise)
        self.plane = Gaussian.cat(self.plane, started)
        spread = np.tile(np.diag(_SHAPE_NOISE_M**2), (len(seen), 1, 1))
        self.shape = Gaussian.cat(self.shape, Gaussian(_shape_of(seen), spread))
        self.id = np.append(self.id, [self._new_id() for _ in range(len(seen))]).astype(np.int64)
        self.hits = np.append(self.hits, np.ones(len(seen), np.int64))
        self.unseen_s = np.append(self.unseen_s, np.zeros(len(seen)))
        self.score = np.append(self.score, np.clip(seen.score, 0, 1))
        self.votes = np.append(self.votes, np.ones(len(seen)))

    def _end_tentative(self) -> np.ndarray:
        """Drop tracks that are missed before they are confirmed; returns (N,) each one's new row, -1 if it ended."""
        live = (self.hits >= self._common.confirm_hits) | (self.unseen_s == 0)
        self._keep(live)
        return np.where(live, np.cumsum(live) - 1, -1)

    def _keep(self, live: np.ndarray) -> None:
        self.plane, self.shape = self.plane[live], self.shape[live]
        self.id, self.hits, self.unseen_s = self.id[live], self.hits[live], self.unseen_s[live]
        self.score, self.votes = self.score[live], self.votes[live]

    def _measure(self, seen: Observed, yaw_rad: np.ndarray) -> np.ndarray:
        velocity = seen.velocity_mps if self._common.use_velocity else np.full_like(seen.velocity_mps, np.nan)
        return self._model.measurement(seen.center_m[:, _PLANE], yaw_rad, velocity)

    def estimate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Filtered (K, 3) centres, (K, 3) sizes, (K,) headings and (K, 2) velocities of tracks."""
        plane, shape = self.plane.mean[rows], self.shape.mean[rows]
        yaw = wrap_angle(plane[:, self._model.yaw] + np.pi * (self.votes[rows] < 0))
        return np.column_stack([plane[:, _PLANE], shape[:, 0]]), shape[:, 1:], yaw, self._model.velocity(plane)


def _shape_of(seen: Observed) -> np.ndarray:
    return np.column_stack([seen.center_m[:, 2], seen.size_m])
