"""A submission straight into columns, with never more than one sample as objects."""

from __future__ import annotations

import json
import re
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from bev.data.nuscenes.tables import Quaternion, Vector
from bev.evaluation.nuscenes.columns import BoxColumns
from bev.evaluation.nuscenes.settings import MAX_BOXES
from bev.evaluation.nuscenes.submission import check_sample, convert_sample, find_fault, read_bytes
from bev.io import FileError
from bev.structures.conventions import ATTRIBUTES, CLASSES

_LABEL = {name: i for i, name in enumerate(CLASSES)}
_ATTRIBUTE = {"": -1, **{name: i for i, name in enumerate(ATTRIBUTES)}}
_NUMBERS = attrgetter("translation", "size", "rotation", "velocity")
_WIDTH = 12  # values of the four of them
# NaN as Python's json writes it, outside of texts.
_NAN = re.compile(rb"(?<=[\[,:\s])NaN(?=[\],}\s])")


class _Row(msgspec.Struct, gc=False):
    """One box; a velocity that is not known is NaN in the file, which is no JSON, and a text after ``_NAN``."""

    sample_token: str
    translation: Vector
    size: Vector
    rotation: Quaternion
    velocity: tuple[float | Literal["NaN"], float | Literal["NaN"]]
    detection_name: str
    detection_score: float
    attribute_name: str
    num_pts: int = -1


class _File(msgspec.Struct):
    meta: dict[str, Any]
    results: dict[str, msgspec.Raw]


def read_columns(path: str | Path) -> tuple[BoxColumns, list[str]]:
    """Read and check a submission.

    Returns:
        The boxes (global frame), and the samples' tokens, both in the order of the file.

    Raises:
        FileError: missing, not JSON, or a record that nuScenes does not take: more than 500 boxes in a sample, an
            unknown class or attribute, a wrong number of values, a size that is not positive, a number that is not
            finite (only a velocity may be NaN: it is not known) ...; names the sample and the box.
    """
    file = _decode(path)
    decoder = msgspec.json.Decoder(list[_Row])
    parts = []
    for token, raw in file.results.items():
        try:
            parts.append(_part(token, decoder.decode(raw)))
        except (msgspec.DecodeError, _FaultError) as error:
            raise _named_fault(path, token, raw, str(error)) from error
    columns = _columns(parts)
    fault = _first_fault(columns)
    if fault is not None:
        token = list(file.results)[fault]
        raise _named_fault(path, token, file.results[token], "a number is not finite")
    return columns, list(file.results)


def _decode(path: str | Path) -> _File:
    data = read_bytes(path)
    try:
        return msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError as error:
        try:
            return msgspec.json.decode(_NAN.sub(b'"NaN"', data), type=_File)
        except msgspec.DecodeError:
            for token, records in find_fault(path, data, error).results.items():
                check_sample(path, token, records)
            raise FileError(f"{path}: {error}") from error


class _FaultError(ValueError):
    """Some record of the sample cannot be used."""


def _part(token: str, rows: list[_Row]) -> tuple[np.ndarray, ...]:
    """Columns of a sample: (m, 12) numbers, and (m,) scores, labels, attributes and points."""
    if len(rows) > MAX_BOXES or any(row.sample_token != token for row in rows):
        raise _FaultError
    flat = chain.from_iterable(chain.from_iterable(map(_NUMBERS, rows)))
    numbers = np.fromiter(flat, np.float64, _WIDTH * len(rows))
    try:
        label = np.array([_LABEL[row.detection_name] for row in rows], np.int8)
        attribute = np.array([_ATTRIBUTE[row.attribute_name] for row in rows], np.int8)
    except KeyError:
        raise _FaultError from None
    score = np.array([row.detection_score for row in rows], np.float64)
    num_pts = np.array([row.num_pts for row in rows], np.int32)
    return numbers.reshape(-1, _WIDTH), score, label, attribute, num_pts


def _columns(parts: list[tuple[np.ndarray, ...]]) -> BoxColumns:
    """One table of the samples' parts, which are used up."""
    sample = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part[0]) for part in parts])
    empty = _part("", [])
    numbers, score, label, attribute, num_pts = (
        np.concatenate([first, *column]) for first, *column in zip(empty, *parts)
    )
    center, size, rotation, velocity = np.split(numbers, (3, 6, 10), axis=1)
    rows = np.arange(len(sample))
    return BoxColumns(sample, label, center, size[:, [1, 0, 2]], rotation, velocity, score, attribute, num_pts, rows)


def _first_fault(boxes: BoxColumns) -> int | None:
    """Sample of the first box whose numbers cannot be used; None where all can."""
    finite = np.isfinite(boxes.center_m).all(1) & np.isfinite(boxes.size_m).all(1) & np.isfinite(boxes.rotation).all(1)
    finite &= np.isfinite(boxes.score) & ~np.isinf(boxes.velocity_mps).any(1)
    usable = finite & (boxes.size_m > 0).all(1) & boxes.rotation.any(1)
    return None if usable.all() else int(boxes.sample[int(usable.argmin())])


def _named_fault(path: str | Path, token: str, raw: msgspec.Raw, problem: str) -> FileError:
    """The error that names the record and its field; ``problem`` where only the fast reader found one."""
    records = json.loads(bytes(raw).replace(b'"NaN"', b"NaN"))
    try:
        check_sample(path, token, convert_sample(path, token, records))
    except FileError as error:
        return error
    return FileError(f"{path}: sample {token}: {problem}")
