"""Tracking of boxes in the pictures of one camera, in two stages by score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bev.geometry.boxes2d import pairwise_overlap
from bev.tracking import kalman
from bev.tracking.association import hungarian
from bev.tracking.kalman import Gaussian

Array = np.ndarray | torch.Tensor | Sequence
_OBSERVE = np.eye(4, 8)


@dataclass(frozen=True)
class Tracker2DSettings:
    """Settings of :class:`Tracker2D`.

    Attributes:
        high_score, low_score: detections from the one on are associated first, those between the two only with what is
            then left; the others are not used.
        start_score: detections from it on start tracks.
        min_iou: of a track's expected box with a detection of a high score, with one of a low score, and of a track
            that was seen once only.
        max_age_s: a track that was not seen for longer ends.
        position_noise, velocity_noise: standard deviations as shares of a box's height: of a detected position, and of
            the velocity's change in a second.
        same_class: whether a track only takes detections of its class.
    """

    high_score: float = 0.5
    low_score: float = 0.1
    start_score: float = 0.6
    min_iou: tuple[float, float, float] = (0.2, 0.5, 0.3)
    max_age_s: float = 1.0
    position_noise: float = 0.05
    velocity_noise: float = 0.2
    same_class: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.low_score <= self.high_score <= self.start_score:
            raise ValueError(f"low_score, high_score and start_score must rise, got {self}")
        if len(self.min_iou) != 3 or not all(0 <= x < 1 for x in self.min_iou):
            raise ValueError(f"min_iou must be three values from 0 on and below 1, got {self.min_iou}")
        if not (self.max_age_s > 0 and self.position_noise > 0 and self.velocity_noise > 0):
            raise ValueError("max_age_s, position_noise and velocity_noise must be positive")


class Tracker2D:
    """Gives the boxes of a video the numbers of their objects.

    Two-stage association after Zhang et al., "ByteTrack" (ECCV 2022): detections of a high score are matched first to
    every live track by IoU (Hungarian), then those of a low score, which are often objects half hidden, to the tracks
    seen in the last frame that are left. A track that starts counts as an object once it is seen in the next frame
    too; those of the first frame count at once.

    State of a track: centre x, y, width, height [px] and their velocities [px/s]; constant velocity with white
    acceleration, so frames need not be equally spaced.

    Args:
        settings: None: the defaults.
    """

    def __init__(self, settings: Tracker2DSettings | None = None) -> None:
        self.settings = settings or Tracker2DSettings()
        self.reset()

    def reset(self) -> None:
        """Forget every track and start numbering at 1 again."""
        self._time_s: float | None = None
        self._next_id = 1
        self._state = Gaussian(np.zeros((0, 8)), np.zeros((0, 8, 8)))
        self._id, self._label, self._unseen_s = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        self._confirmed = np.zeros(0, bool)

    def update(self, boxes_px: Array, scores: Array, labels: Array, time_s: float) -> np.ndarray:
        """The next picture.

        Args:
            boxes_px: (M, 4) left, top, right, bottom of the detections.
            scores: (M,) between 0 and 1.
            labels: (M,) integers.
            time_s: of the picture; later than that of the last one.

        Returns:
            (M,) int64 number of each detection's object; -1 where it has none (yet).

        Raises:
            ValueError: shapes that do not fit together, a box without area, numbers that are not finite, or a time
                that does not advance.
        """
        boxes, score, label = _checked(boxes_px, scores, labels)
        if not math.isfinite(time_s) or (self._time_s is not None and time_s <= self._time_s):
            raise ValueError(f"time {time_s} s does not follow {self._time_s} s")
        first = self._time_s is None
        dt_s, self._time_s = time_s - (time_s if self._time_s is None else self._time_s), time_s
        self._keep(np.flatnonzero(self._unseen_s + dt_s <= self.settings.max_age_s))
        in_last_frame = self._unseen_s == 0
        self._predict(dt_s)
        track = self._associate(boxes, score, label, in_last_frame)
        self._correct(track, boxes)
        track = self._start(track, boxes, score, label, confirmed=first)
        # The last entries are for detections without a track.
        number = np.where(np.append(self._confirmed, False)[track], np.append(self._id, -1)[track], -1)
        self._keep(np.flatnonzero(self._confirmed | (self._unseen_s == 0)))
        return number

    def _predict(self, dt_s: float) -> None:
        count = len(self._id)
        transition = np.eye(8)
        transition[:4, 4:] = dt_s * np.eye(4)
        push = np.concatenate([dt_s**2 / 2 * np.eye(4), dt_s * np.eye(4)])
        strength = (self.settings.velocity_noise * self._state.mean[:, 3]) ** 2
        noise = strength[:, None, None] * (push @ push.T)
        moved = self._state.mean @ transition.T
        moved[:, 2:4] = np.maximum(moved[:, 2:4], 1.0)  # a box that was shrinking is not turned inside out
        self._state = kalman.predict(self._state, moved, np.broadcast_to(transition, (count, 8, 8)), noise)
        self._unseen_s = self._unseen_s + dt_s

    def _associate(self, boxes: np.ndarray, score: np.ndarray, label: np.ndarray, recent: np.ndarray) -> np.ndarray:
        """(M,) row of each detection's track, -1 where it has none."""
        settings, track = self.settings, np.full(len(boxes), -1, np.int64)
        high = score >= settings.high_score
        low = ~high & (score >= settings.low_score)
        rounds = ((high, self._confirmed), (low, self._confirmed & recent), (high, ~self._confirmed))
        free = np.ones(len(self._id), bool)
        iou = pairwise_overlap(torch.from_numpy(self._expected_px()), torch.from_numpy(boxes)).numpy()
        allowed = self._label[:, None] == label[None] if settings.same_class else np.ones_like(iou, bool)
        for (chosen, candidates), least in zip(rounds, settings.min_iou):
            rows, columns = np.flatnonzero(candidates & free), np.flatnonzero(chosen & (track < 0))
            part, fits = iou[np.ix_(rows, columns)], allowed[np.ix_(rows, columns)]
            r, c = hungarian(np.where(fits & (part > 0) & (part >= least), 1 - part, np.inf))
            track[columns[c]] = rows[r]
            free[rows[r]] = False
        return track

    def _expected_px(self) -> np.ndarray:
        center, half = self._state.mean[:, :2], self._state.mean[:, 2:4] / 2
        return np.concatenate([center - half, center + half], 1)

    def _correct(self, track: np.ndarray, boxes: np.ndarray) -> None:
        seen = np.flatnonzero(track >= 0)
        rows, measured = track[seen], _center_size(boxes[seen])
        before = self._state[rows]
        noise = (self.settings.position_noise * before.mean[:, 3])[:, None, None] ** 2 * np.eye(4)
        after = kalman.update(before, measured - before.mean[:, :4], _OBSERVE, noise)
        self._state = self._state.with_rows(rows, after)
        self._unseen_s[rows] = 0.0
        self._confirmed[rows] = True

    def _start(
        self, track: np.ndarray, boxes: np.ndarray, score: np.ndarray, label: np.ndarray, confirmed: bool
    ) -> np.ndarray:
        """Tracks of the surest detections that are left; returns ``track`` with their rows."""
        new = np.flatnonzero((track < 0) & (score >= self.settings.start_score))
        measured = _center_size(boxes[new])
        # A new object may move by a box's height in a quarter of a second.
        spread = np.array([2 * self.settings.position_noise] * 4 + [4.0] * 4)
        covariance = (measured[:, 3:4] * spread)[:, :, None] ** 2 * np.eye(8)
        mean = np.concatenate([measured, np.zeros_like(measured)], 1)
        track = track.copy()
        track[new] = len(self._id) + np.arange(len(new))
        self._state = Gaussian.cat(self._state, Gaussian(mean, covariance))
        self._id = np.append(self._id, self._next_id + np.arange(len(new)))
        self._next_id += len(new)
        self._label = np.append(self._label, label[new])
        self._unseen_s = np.append(self._unseen_s, np.zeros(len(new)))
        self._confirmed = np.append(self._confirmed, np.full(len(new), confirmed))
        return track

    def _keep(self, rows: np.ndarray) -> None:
        self._state, self._id, self._label = self._state[rows], self._id[rows], self._label[rows]
        self._unseen_s, self._confirmed = self._unseen_s[rows], self._confirmed[rows]


def _checked(boxes_px: Array, scores: Array, labels: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (M, 4) and scores (M,) as float64, labels (M,) as int64."""
    tensors = (torch.as_tensor(x).detach().cpu().numpy() for x in (boxes_px, scores, labels))
    boxes, score, label = (np.asarray(x, kind) for x, kind in zip(tensors, (np.float64, np.float64, np.int64)))
    if boxes.size == 0:
        boxes = boxes.reshape(-1, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or score.shape != (len(boxes),) or label.shape != (len(boxes),):
        raise ValueError(f"boxes {boxes.shape}, scores {score.shape} and labels {label.shape} do not fit together")
    if not (np.isfinite(boxes).all() and np.isfinite(score).all()):
        raise ValueError("a box or score is not finite")
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        worst = int((boxes[:, 2:] > boxes[:, :2]).all(1).argmin())
        raise ValueError(f"box {worst} has no area: {boxes[worst].tolist()}")
    return boxes, score, label


def _center_size(boxes: np.ndarray) -> np.ndarray:
    """(M, 4) corners -> (M, 4) centre x, y, width, height."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
