"""Detections of whole scenes as a nuScenes submission in, tracks out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bev.data.frame_index import FrameIndex
from bev.data.nuscenes.dataset import frames_of_split
from bev.data.nuscenes.store import load_index
from bev.evaluation.nuscenes.samples import check_samples
from bev.evaluation.nuscenes.settings import MAX_BOXES
from bev.evaluation.nuscenes.submission import boxes_of, read_submission
from bev.evaluation.tracking import TRACKING_CLASSES, TrackedBox, write_tracks
from bev.geometry.rotations import quaternion_from_yaw
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES
from bev.tracking.settings import TrackerSettings
from bev.tracking.tracker3d import Tracker3D

_US = 1e-6


class SceneTracker(Protocol):
    """What :func:`track_scene` needs: see :class:`Tracker3D`."""

    def reset(self) -> None:
        """Forget every track."""

    def update(self, boxes: Boxes3D, time_s: float) -> Boxes3D:
        """The next frame's boxes with ``track_id``."""


def track_submission(
    results_path: str | Path,
    root: str | Path,
    version: str,
    split: str | Sequence[str],
    out_path: str | Path,
    settings: TrackerSettings | None = None,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> int:
    """Track the detections of a submission through every scene of a split.

    Args:
        results_path: detection submission JSON, with every sample of the split.
        root, version, split: as for ``NuScenesDataset``.
        out_path: the tracking submission to write, atomically; its ``meta`` is that of the detections.
        settings: of the tracker.
        progress: given the scenes' numbers, yields them (a progress bar).

    Returns:
        How many tracks were written.

    Raises:
        FileError: the results or the tables cannot be used; names file and record.
    """
    index = load_index(root, version)
    submission = read_submission(results_path)
    frames = frames_of_split(index, Path(root) / version, split)
    wanted = [index.token[int(i)] for i in frames]
    check_samples(results_path, list(submission.results), wanted, index.frame_of)
    tracker, results = Tracker3D(settings), {}
    scenes = np.asarray(index.scene)[frames]
    for scene in progress(list(dict.fromkeys(scenes.tolist()))):
        chosen = frames[scenes == scene].tolist()
        results.update(track_scene(tracker, index, chosen, lambda token: boxes_of(submission.results[token])))
    write_tracks(out_path, {token: results[token] for token in wanted}, submission.meta)
    return len({box.tracking_id for boxes in results.values() for box in boxes})


def track_scene(
    tracker: SceneTracker, index: FrameIndex, frames: Sequence[int], detections: Callable[[str], Boxes3D]
) -> dict[str, list[TrackedBox]]:
    """Tracks of one scene.

    Args:
        tracker: is reset first.
        index: of the data set.
        frames: rows of the index, in order of time.
        detections: boxes of a sample, global frame, by its token.
    """
    tracker.reset()
    results: dict[str, list[TrackedBox]] = {}
    for frame in frames:
        token, since_us = index.token[frame], int(index.timestamp_us[frame]) - int(index.timestamp_us[frames[0]])
        results[token] = tracked_boxes(token, tracker.update(detections(token), since_us * _US))
    return results


def tracked_boxes(token: str, boxes: Boxes3D) -> list[TrackedBox]:
    """Tracked boxes of one sample (global frame) as records, best first, at most 500; only classes that are scored."""
    if boxes.track_id is None:
        raise ValueError(f"sample {token}: the boxes have no track_id")
    columns: Any = zip(
        boxes.center_m.tolist(),
        boxes.size_m[:, [1, 0, 2]].tolist(),
        quaternion_from_yaw(boxes.yaw_rad.double()).tolist(),
        boxes.velocity_mps.tolist(),
        boxes.track_id.tolist(),
        [CLASSES[i] for i in boxes.label.tolist()],
        boxes.score.tolist(),
    )
    # TrackedBox takes tuples of known lengths, which the columns' rows have.
    every: list[Any] = [[token, *map(tuple, row[:4]), str(row[4]), *row[5:]] for row in columns]
    rows = [TrackedBox(*row) for row in every if row[6] in TRACKING_CLASSES]
    return sorted(rows, key=lambda row: -row.tracking_score)[:MAX_BOXES]
