"""Tracks as a nuScenes submission: https://www.nuscenes.org/tracking, "Results format"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bev.data.nuscenes.tables import Quaternion, Vector
from bev.evaluation.nuscenes.submission import (
    CAMERA_ONLY,
    check_count,
    check_name,
    check_numbers,
    convert_records,
    decode_slowly,
    read_bytes,
)
from bev.io import FileError
from bev.io.json_files import write_json

# In the order of the devkit's tracking_nips_2019: barriers, cones and construction vehicles are not tracked.
TRACKING_CLASSES = ("bicycle", "bus", "car", "motorcycle", "pedestrian", "trailer", "truck")

_CHUNK_BYTES = 1 << 20


class TrackedBox(msgspec.Struct, omit_defaults=True):
    """One box of a track in the global frame: m, quaternion w x y z, m/s; size is width, length, height.

    ``tracking_id`` is the same for one object over a scene. ``num_pts`` is no part of the format, but the evaluation
    leaves a box out that has 0.
    """

    sample_token: str
    translation: Vector
    size: Vector
    rotation: Quaternion
    velocity: tuple[float, float]
    tracking_id: str
    tracking_name: str
    tracking_score: float
    num_pts: int = -1


class TrackSubmission(msgspec.Struct):
    """Tracked boxes of every sample, by token."""

    meta: dict[str, Any]
    results: dict[str, list[TrackedBox]]


def is_tracking_file(path: str | Path) -> bool:
    """Whether a results file holds tracks: which of the two formats' names comes first.

    Raises:
        FileError: the file cannot be read.
    """
    kept = b""
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                text = kept + chunk
                found = {name: text.find(b'"%s"' % name) for name in (b"tracking_id", b"detection_name")}
                found = {name: place for name, place in found.items() if place >= 0}
                if found:
                    return min(found, key=lambda name: found[name]) == b"tracking_id"
                kept = text[-32:]
    except OSError as error:
        raise FileError(f"{path}: cannot read the results: {error.strerror or error}") from error
    return False


def read_tracks(path: str | Path) -> TrackSubmission:
    """Read and check a tracking submission.

    Raises:
        FileError: missing, not JSON, or a record that cannot be scored: more than 500 boxes in a sample, an unknown
            class, a wrong number of values, a number that is not finite (only a velocity may be NaN: not known), an
            empty id, one id twice in a sample; names the sample and the box.
    """
    try:
        submission = msgspec.json.decode(data := read_bytes(path), type=TrackSubmission)
    except msgspec.DecodeError as error:
        meta, results = decode_slowly(path, data, error)
        converted = {token: convert_records(path, token, boxes, TrackedBox) for token, boxes in results.items()}
        submission = TrackSubmission(meta, converted)
    for token, boxes in submission.results.items():
        _check_sample(path, token, boxes)
    return submission


def write_tracks(
    path: str | Path, results: Mapping[str, Sequence[TrackedBox]], meta: Mapping[str, Any] = CAMERA_ONLY
) -> None:
    """Write a tracking submission atomically; ``results`` holds every sample, also those without boxes."""
    write_json(path, {"meta": dict(meta), "results": results})


def _check_sample(path: str | Path, token: str, boxes: Sequence[TrackedBox]) -> None:
    check_count(path, token, len(boxes))
    first: dict[str, int] = {}
    for i, box in enumerate(boxes):
        where = f"{path}: sample {token}, box {i}"
        check_name(where, "class", box.tracking_name, TRACKING_CLASSES)
        check_numbers(where, token, box, box.tracking_score)
        if not box.tracking_id:
            raise FileError(f"{where}: its tracking_id is empty")
        if first.setdefault(box.tracking_id, i) != i:
            raise FileError(f"{where}: tracking_id {box.tracking_id!r} is that of box {first[box.tracking_id]} too")


def check_tracks(
    path: str | Path, results: Mapping[str, Sequence[TrackedBox]], scene_of: Mapping[str, str]
) -> None:
    """Raise FileError where a track changes its class within a scene, which the format forbids.

    Args:
        results: by sample.
        scene_of: scene of each sample of ``results``.
    """
    known: dict[tuple[str, str], str] = {}
    for token, boxes in results.items():
        for i, box in enumerate(boxes):
            name = known.setdefault((scene_of[token], box.tracking_id), box.tracking_name)
            if name != box.tracking_name:
                raise FileError(
                    f"{path}: sample {token}, box {i}: track {box.tracking_id!r} is a {box.tracking_name}, "
                    f"elsewhere in scene {scene_of[token]} a {name}"
                )
