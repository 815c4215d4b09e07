"""Tracking of boxes in space: a Kalman filter an object, association class by class, and a life cycle."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import count

import numpy as np
import torch

from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES
from bev.tracking.class_tracks import ClassTracks, Observed
from bev.tracking.settings import TrackerSettings


class Tracker3D:
    """Gives the boxes of one scene, frame after frame, the numbers of their objects.

    Tracking by detection after Weng et al., "3D Multi-Object Tracking: A Baseline" (IROS 2020), with other parts: a
    motion model by class (:mod:`bev.tracking.motion`), association by likelihood, and track scores that are refined:
    a track whose score s is confirmed by a detection of score d has 1 - (1 - s)(1 - d), and s fades while it is not
    seen (Benbarka et al., "Score refinement for confidence-based 3D multi-object tracking", IROS 2021).

    A track that is missed lives on without being reported; seen again in time, it keeps its number.

    Args:
        settings: None: those for nuScenes.
        first_id: number of the first track.
    """

    def __init__(self, settings: TrackerSettings | None = None, first_id: int = 0) -> None:
        self.settings = settings or TrackerSettings()
        self._ids = count(first_id)
        self.reset()

    def reset(self) -> None:
        """Forget every track, as at the start of a scene; numbers are not used again."""
        self._time_s: float | None = None
        self._tracks = {
            CLASSES.index(name): ClassTracks(setting, self.settings, lambda: next(self._ids))
            for name, setting in self.settings.classes.items()
        }

    def update(self, boxes: Boxes3D, time_s: float) -> Boxes3D:
        """The next frame.

        Args:
            boxes: M detections of any classes in a frame that does not move (global).
            time_s: of the frame; later than that of the last one.

        Returns:
            The K reported tracks seen in this frame, global frame, float64, in the order of their detections: filtered
            centre, size, heading and velocity, the detection's label and attribute, the track's score, ``track_id``.

        Raises:
            ValueError: the time does not advance, boxes of a moving frame, or numbers that are not finite (a velocity
                may be NaN: not known).
        """
        self._check(boxes, time_s)
        dt_s, self._time_s = time_s - (time_s if self._time_s is None else self._time_s), time_s
        boxes = boxes[boxes.score >= self.settings.min_score].to("cpu")
        parts = [self._update_class(boxes, label, tracks, dt_s) for label, tracks in self._tracks.items()]
        rows = np.concatenate([part[0] for part in parts])
        order = np.argsort(rows, kind="stable")
        center, size, yaw, velocity, score, track = (
            torch.from_numpy(np.concatenate([part[1][k] for part in parts])[order]) for k in range(6)
        )
        chosen = boxes[torch.from_numpy(rows[order])]
        moved = replace(chosen, center_m=center, size_m=size, yaw_rad=yaw, velocity_mps=velocity)
        return replace(moved, score=score, track_id=track)

    def _check(self, boxes: Boxes3D, time_s: float) -> None:
        if boxes.frame != "global":
            raise ValueError(f"tracking needs a frame that does not move (global), got {boxes.frame!r}")
        if not math.isfinite(time_s) or (self._time_s is not None and time_s <= self._time_s):
            raise ValueError(f"time {time_s} s does not follow {self._time_s} s")
        for name in ("center_m", "size_m", "yaw_rad", "score"):
            if not bool(torch.isfinite(getattr(boxes, name)).all()):
                raise ValueError(f"a detection's {name} is not finite")

    def _update_class(
        self, boxes: Boxes3D, label: int, tracks: ClassTracks, dt_s: float
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Rows of ``boxes`` that are reported, and what is reported of them."""
        rows = np.flatnonzero((boxes.label == label).numpy())
        columns = (boxes.center_m, boxes.size_m, boxes.yaw_rad, boxes.velocity_mps, boxes.score)
        seen = Observed(*(column.double().numpy()[rows] for column in columns))
        tracks.predict(dt_s)
        track = tracks.update(seen)
        kept = np.flatnonzero(track >= 0)
        kept = kept[tracks.hits[track[kept]] >= self.settings.confirm_hits]
        track = track[kept]
        score = tracks.score[track] if self.settings.score == "refined" else seen.score[kept]
        return rows[kept], (*tracks.estimate(track), score, tracks.id[track])
