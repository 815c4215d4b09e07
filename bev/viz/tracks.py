"""Tracks of a nuScenes tracking submission as they are drawn: https://www.nuscenes.org/tracking, "Results format"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from bev.data.nuscenes.tables import Quaternion, Vector
from bev.evaluation.nuscenes.submission import Detection, boxes_of, to_ref
from bev.io import FileError
from bev.registry import suggest
from bev.structures import Boxes3D, Sample
from bev.structures.boxes3d import Frame
from bev.structures.conventions import CLASSES
from bev.viz.overlay import Track


class TrackedBox(msgspec.Struct):
    """One box in the global frame: m, quaternion w x y z, m/s; size is width, length, height."""

    sample_token: str
    translation: Vector
    size: Vector
    rotation: Quaternion
    velocity: tuple[float, float]
    tracking_id: str | int
    tracking_name: str
    tracking_score: float


class TrackingSubmission(msgspec.Struct):
    """Tracked boxes of every sample, by token."""

    meta: dict[str, Any]
    results: dict[str, list[TrackedBox]]


def read_tracks(path: str | Path) -> TrackingSubmission:
    """Read and check a tracking submission.

    Raises:
        FileError: missing, not JSON, or a record that cannot be drawn; names the sample and the box.
    """
    try:
        submission = msgspec.json.decode(Path(path).read_bytes(), type=TrackingSubmission)
    except OSError as error:
        raise FileError(f"{path}: cannot read the tracks: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise FileError(f"{path}: not a tracking submission: {error}") from error
    for token, boxes in submission.results.items():
        for i, box in enumerate(boxes):
            _check(f"{path}: sample {token}, box {i}", token, box)
    return submission


def _check(where: str, token: str, box: TrackedBox) -> None:
    if box.sample_token != token:
        raise FileError(f"{where}: its sample_token is {box.sample_token!r}")
    if box.tracking_name not in CLASSES:
        raise FileError(f"{where}: unknown class {box.tracking_name!r}{suggest(box.tracking_name, CLASSES)}")
    if not all(map(math.isfinite, (*box.translation, *box.size, *box.rotation, box.tracking_score))):
        raise FileError(f"{where}: holds a NaN or infinite value")
    if min(box.size) <= 0 or not any(box.rotation):
        raise FileError(f"{where}: size {box.size} and rotation {box.rotation} must be positive and not zero")


class TrackHistory:
    """Tracked boxes, and the ways of the objects through their scenes.

    Args:
        boxes: tracked boxes by token, in the global frame.
        scenes: tokens of each scene in the order of time.
        reach: so many frames of the past are drawn.
    """

    def __init__(
        self, boxes: Mapping[str, Sequence[TrackedBox]], scenes: Sequence[Sequence[str]], reach: int = 20
    ) -> None:
        self.records, self.reach = boxes, reach
        self._place = {token: (tokens, i) for tokens in scenes for i, token in enumerate(tokens)}
        names = list(dict.fromkeys(str(box.tracking_id) for records in boxes.values() for box in records))
        whole = all(name.isdecimal() and len(name) < 16 for name in names)
        self._number = {name: int(name) if whole else i for i, name in enumerate(names)}

    def boxes(self, token: str, global_from_ref: torch.Tensor, frame: Frame) -> Boxes3D:
        """Boxes of a sample in its reference frame; ``track_id`` is the identity, or counts words."""
        records = self.records.get(token, ())
        plain = [
            Detection(token, r.translation, r.size, r.rotation, r.velocity, r.tracking_name, r.tracking_score, "")
            for r in records
        ]
        numbers = [self._number[str(r.tracking_id)] for r in records]
        boxes = to_ref(boxes_of(plain), global_from_ref, frame)
        return replace(boxes, track_id=torch.tensor(numbers, dtype=torch.int64))

    def ways(self, sample: Sample) -> tuple[Track, ...]:
        """Ways up to the present, in the sample's reference frame, of the objects that are tracked in it."""
        tokens, now = self._place.get(sample.token, ((), 0))
        present = {str(box.tracking_id): box.tracking_name for box in self.records.get(sample.token, ())}
        ways: dict[str, list[Vector]] = {name: [] for name in present}
        for token in tokens[max(now - self.reach, 0) : now + 1]:
            for box in self.records.get(token, ()):
                if str(box.tracking_id) in ways:
                    ways[str(box.tracking_id)].append(box.translation)
        ref_from_global = np.linalg.inv(sample.global_from_ref.double().numpy())
        return tuple(
            Track(name, CLASSES.index(present[name]), _moved(way, ref_from_global)) for name, way in ways.items()
        )


def _moved(way: Sequence[Vector], ref_from_global: np.ndarray) -> np.ndarray:
    return np.array(way).reshape(-1, 3) @ ref_from_global[:3, :3].T + ref_from_global[:3, 3]
