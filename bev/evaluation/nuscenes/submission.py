"""Detections as a nuScenes submission: https://www.nuscenes.org/object-detection, "Results format"."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch

from bev.data.nuscenes.tables import Quaternion, Vector
from bev.evaluation.nuscenes.settings import MAX_BOXES
from bev.geometry.rotations import matrix_from_quaternion, quaternion_from_yaw, yaw_from_matrix
from bev.geometry.transforms import transform_points
from bev.io import FileError
from bev.io.json_files import write_json
from bev.registry import suggest
from bev.structures import Boxes3D
from bev.structures.boxes3d import Frame
from bev.structures.conventions import ATTRIBUTES, CLASSES, default_attribute

Record = TypeVar("Record", bound=msgspec.Struct)

CAMERA_ONLY = {
    "use_camera": True,
    "use_lidar": False,
    "use_radar": False,
    "use_map": False,
    "use_external": False,
}


class Detection(msgspec.Struct, omit_defaults=True):
    """One box in the global frame: m, quaternion w x y z, m/s; size is width, length, height.

    ``num_pts`` is no part of the format, but the evaluation leaves a box out that has 0.
    """

    sample_token: str
    translation: Vector
    size: Vector
    rotation: Quaternion
    velocity: tuple[float, float]
    detection_name: str
    detection_score: float
    attribute_name: str
    num_pts: int = -1


class Submission(msgspec.Struct):
    """Detections of every sample, by token."""

    meta: dict[str, Any]
    results: dict[str, list[Detection]]


def detections(token: str, boxes: Boxes3D) -> list[Detection]:
    """Boxes of one sample as records, best first, at most 500.

    Args:
        token: of the sample.
        boxes: global frame. A velocity that is not known becomes 0: the format has no word for it. The attribute is the
            predicted one where ``boxes.attribute`` is not negative, else the usual one of the class at that speed.

    Raises:
        ValueError: boxes of another frame, or a number that is not finite; names the token.
    """
    if boxes.frame != "global":
        raise ValueError(f"sample {token}: a submission needs boxes in the global frame, got {boxes.frame!r}")
    boxes = boxes[torch.argsort(boxes.score, descending=True, stable=True)[:MAX_BOXES]].to("cpu")
    velocity = torch.nan_to_num(boxes.velocity_mps, nan=0.0)
    for name in ("center_m", "size_m", "yaw_rad", "score"):
        if not bool(torch.isfinite(getattr(boxes, name)).all()):
            raise ValueError(f"sample {token}: a predicted {name} is not finite")
    columns = zip(
        boxes.center_m.tolist(),
        boxes.size_m[:, [1, 0, 2]].tolist(),
        quaternion_from_yaw(boxes.yaw_rad.double()).tolist(),
        velocity.tolist(),
        boxes.label.tolist(),
        boxes.score.tolist(),
        [-1] * len(boxes) if boxes.attribute is None else boxes.attribute.tolist(),
    )
    return [_detection(token, *column) for column in columns]


def _detection(
    token: str,
    center: list[float],
    size: list[float],
    rotation: list[float],
    velocity: list[float],
    label: int,
    score: float,
    attribute: int,
) -> Detection:
    name = CLASSES[label]
    attribute_name = ATTRIBUTES[attribute] if attribute >= 0 else default_attribute(name, math.hypot(*velocity))
    return Detection(
        token, tuple(center), tuple(size), tuple(rotation), tuple(velocity), name, score, attribute_name  # type: ignore
    )


def to_global(boxes: Boxes3D, global_from_ref: torch.Tensor) -> Boxes3D:
    """Boxes to the global frame, in float64: kilometres and centimetres do not fit float32 together."""
    names = ("center_m", "size_m", "yaw_rad", "velocity_mps", "score")
    wide = replace(boxes, **{name: getattr(boxes, name).double().cpu() for name in names})
    wide = replace(wide, label=boxes.label.cpu(), attribute=None if boxes.attribute is None else boxes.attribute.cpu())
    kept = replace(wide, num_lidar_pts=None, num_radar_pts=None, visibility=None, track_id=None)
    return kept.transform(global_from_ref.double().cpu(), "global")


def boxes_of(records: Sequence[Detection]) -> Boxes3D:
    """Records of one sample as boxes in the global frame, float64; the inverse of :func:`detections`."""
    columns = [[*r.translation, *r.size, *r.rotation, *r.velocity, r.detection_score] for r in records]
    table = torch.tensor(columns, dtype=torch.float64).reshape(-1, 13)
    label = torch.tensor([CLASSES.index(r.detection_name) for r in records], dtype=torch.int64)
    attribute = [ATTRIBUTES.index(r.attribute_name) if r.attribute_name else -1 for r in records]
    yaw = yaw_from_matrix(matrix_from_quaternion(table[:, 6:10]))
    size = table[:, [4, 3, 5]]
    boxes = Boxes3D(table[:, :3], size, yaw, table[:, 10:12], label, table[:, 12], "global")
    return replace(boxes, attribute=torch.tensor(attribute, dtype=torch.int64))


def to_ref(boxes: Boxes3D, global_from_ref: torch.Tensor, frame: Frame) -> Boxes3D:
    """Boxes of the global frame in a sample's reference frame, float32; the inverse of :func:`to_global`."""
    local = boxes.transform(torch.linalg.inv(global_from_ref.double().cpu()), frame)
    names = ("center_m", "size_m", "yaw_rad", "velocity_mps", "score")
    return replace(local, **{name: getattr(local, name).float() for name in names})


def in_class_range(boxes: Boxes3D, global_from_ego: np.ndarray, class_range_m: Mapping[str, float]) -> torch.Tensor:
    """(M,) bool: boxes (global frame) that are nearer to the vehicle than the range in which their class is scored.

    The distance is taken in the plane of the vehicle's own frame, as the published detectors do before they write their
    results; the devkit filters once more, in the global plane.
    """
    limit = torch.tensor([class_range_m[name] for name in CLASSES], dtype=torch.float64)
    ego_from_global = torch.from_numpy(np.linalg.inv(global_from_ego))
    return transform_points(ego_from_global, boxes.center_m.double())[:, :2].norm(dim=1) < limit[boxes.label]


def write_submission(
    path: str | Path, results: Mapping[str, Sequence[Detection]], meta: Mapping[str, bool] = CAMERA_ONLY
) -> None:
    """Write a submission atomically; ``results`` holds every sample, also those without boxes."""
    write_json(path, {"meta": dict(meta), "results": results})


def read_submission(path: str | Path) -> Submission:
    """Read and check a submission.

    Raises:
        FileError: missing, not JSON, or a record that the evaluation cannot use (501 boxes in a sample, an unknown
            class or attribute, NaN, a wrong number of values ...); names the sample and the box.
    """
    try:
        submission = msgspec.json.decode(data := read_bytes(path), type=Submission)
    except msgspec.DecodeError as error:
        submission = find_fault(path, data, error)
    for token, boxes in submission.results.items():
        check_sample(path, token, boxes)
    return submission


def read_bytes(path: str | Path) -> bytes:
    """Content of a results file; raises FileError where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot read the results: {error.strerror or error}") from error


def find_fault(path: str | Path, data: bytes, error: msgspec.DecodeError) -> Submission:
    """Decode again slowly, to name the record; also reads the NaN that Python writes."""
    meta, results = decode_slowly(path, data, error)
    return Submission(meta, {token: convert_sample(path, token, boxes) for token, boxes in results.items()})


def decode_slowly(path: str | Path, data: bytes, error: msgspec.DecodeError) -> tuple[dict[str, Any], dict[str, Any]]:
    """``meta`` and ``results`` of a file that the fast decoder refused; raises FileError where they are not there."""
    try:
        document = json.loads(data)
    except ValueError as broken:
        raise FileError(f"{path}: malformed JSON: {broken}") from error
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, dict) or not isinstance(document.get("meta"), dict):
        raise FileError(f"{path}: expected an object with 'meta' and 'results', objects both") from error
    return document["meta"], results


def convert_sample(path: str | Path, token: str, boxes: Any) -> list[Detection]:
    """Records of decoded JSON; raises FileError naming the sample, the record's number and the field."""
    return convert_records(path, token, boxes, Detection)


def convert_records(path: str | Path, token: str, boxes: Any, kind: type[Record]) -> list[Record]:
    """As :func:`convert_sample`, for records of any type."""
    try:
        return msgspec.convert(boxes, list[kind])  # type: ignore[valid-type]
    except msgspec.ValidationError as invalid:
        raise FileError(f"{path}: sample {token}: {invalid}") from invalid


def check_sample(path: str | Path, token: str, boxes: Sequence[Detection]) -> None:
    """Raise FileError for the first record that the evaluation cannot use."""
    check_count(path, token, len(boxes))
    for i, box in enumerate(boxes):
        where = f"{path}: sample {token}, box {i}"
        check_name(where, "class", box.detection_name, CLASSES)
        if box.attribute_name:
            check_name(where, "attribute", box.attribute_name, ATTRIBUTES)
        check_numbers(where, token, box, box.detection_score)


def check_count(path: str | Path, token: str, count: int) -> None:
    """Raise FileError for more than 500 boxes in a sample."""
    if count > MAX_BOXES:
        raise FileError(f"{path}: sample {token} has {count} boxes, at most {MAX_BOXES} are allowed")


def check_name(where: str, what: str, name: str, known: Sequence[str]) -> None:
    """Raise FileError, with the nearest name, for one that is not known."""
    if name not in known:
        raise FileError(f"{where}: unknown {what} {name!r}{suggest(name, known)}")


def check_numbers(where: str, token: str, box: Any, score: float) -> None:
    """Raise FileError for numbers of a record that no evaluation can use; a velocity may be NaN: it is not known."""
    if box.sample_token != token:
        raise FileError(f"{where}: its sample_token is {box.sample_token!r}")
    numbers = (*box.translation, *box.size, *box.rotation, score)
    if not all(map(math.isfinite, numbers)) or any(map(math.isinf, box.velocity)):
        raise FileError(f"{where}: holds a NaN or infinite value")
    if min(box.size) <= 0 or not any(box.rotation):
        raise FileError(f"{where}: size {box.size} and rotation {box.rotation} must be positive and not zero")
