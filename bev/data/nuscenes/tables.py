"""The relational tables of nuScenes v1.0 as typed rows.

Format: https://github.com/nutonomy/nuscenes-devkit/blob/master/docs/schema_nuscenes.md. Only the columns that are used
are decoded, which is what makes the large tables fast.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

import msgspec

from bev.io import FileError

_CHUNK_BYTES = 1 << 24

# What the index's integer columns hold; more is no time and no number of points or pixels.
Time = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


class Scene(msgspec.Struct, gc=False):
    """A row of ``scene``."""

    token: str
    name: str


class SampleRow(msgspec.Struct, gc=False):
    """A row of ``sample``: a key frame, its neighbours by token (empty: none)."""

    token: str
    timestamp: Time
    scene_token: str
    prev: str
    next: str


class SampleData(msgspec.Struct, gc=False):
    """A row of ``sample_data``: one file of one sensor, px."""

    token: str
    sample_token: str
    ego_pose_token: str
    calibrated_sensor_token: str
    timestamp: Time
    filename: str
    is_key_frame: bool
    height: Count | None = None
    width: Count | None = None


class EgoPose(msgspec.Struct, gc=False):
    """A row of ``ego_pose``: global_from_ego, quaternion w x y z and m."""

    token: str
    rotation: Quaternion
    translation: Vector


class CalibratedSensor(msgspec.Struct):
    """A row of ``calibrated_sensor``: ego_from_sensor, quaternion w x y z and m, and a camera's (3, 3) matrix, px."""

    token: str
    sensor_token: str
    rotation: Quaternion
    translation: Vector
    camera_intrinsic: list[list[float]]


class Sensor(msgspec.Struct):
    """A row of ``sensor``."""

    token: str
    channel: str
    modality: str


class Annotation(msgspec.Struct, gc=False):
    """A row of ``sample_annotation``: centre, size as width length height in m, quaternion w x y z, global frame."""

    token: str
    sample_token: str
    instance_token: str
    visibility_token: str
    attribute_tokens: tuple[str, ...]
    translation: Vector
    size: Vector
    rotation: Quaternion
    prev: str
    next: str
    num_lidar_pts: Count
    num_radar_pts: Count


class Instance(msgspec.Struct):
    """A row of ``instance``."""

    token: str
    category_token: str


class Named(msgspec.Struct):
    """A row of ``category`` or ``attribute``."""

    token: str
    name: str


class Visibility(msgspec.Struct):
    """A row of ``visibility``."""

    token: str
    level: str


# The tables that are read.
TABLES = (
    "scene",
    "sample",
    "sample_data",
    "ego_pose",
    "calibrated_sensor",
    "sensor",
    "sample_annotation",
    "instance",
    "category",
    "attribute",
    "visibility",
)

Row = TypeVar("Row", bound=msgspec.Struct)


class RecordError(FileError):
    """A record that cannot be used; names the table, not yet the folder."""


def read_table(folder: Path, name: str, row: type[Row]) -> list[Row]:
    """Rows of ``<folder>/<name>.json``.

    Raises:
        FileError: missing, not JSON, or a record with a missing or wrong field; names the record and the field.
    """
    path = folder / f"{name}.json"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot read the table: {error.strerror or error}") from error
    try:
        return msgspec.json.decode(data, type=list[row])  # type: ignore[valid-type]
    except msgspec.ValidationError as error:
        raise FileError(f"{path}: {_name_record(data, error)}") from error
    except msgspec.DecodeError as error:
        return _read_with_nan(path, data, row, error)


def iterate_table(folder: Path, name: str, row: type[Row]) -> Iterator[list[Row]]:
    """As :func:`read_table`, some thousand rows at a time: the large tables never lie in memory whole.

    The text is cut between records (``}``, comma, ``{``); where a piece is not a list of rows for whatever reason, the
    whole table is read instead, so that errors and unusual layouts are those of :func:`read_table`.
    """
    decoder, count = msgspec.json.Decoder(list[row]), 0  # type: ignore[valid-type]
    try:
        with open(folder / f"{name}.json", "rb") as file:
            for piece in _pieces(file):
                rows = decoder.decode(piece)
                yield rows
                count += len(rows)
        return
    except (OSError, msgspec.MsgspecError):
        pass
    yield read_table(folder, name, row)[count:]


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """Texts of lists that together are the list in a file."""
    rest = file.read(_CHUNK_BYTES)
    while block := file.read(_CHUNK_BYTES):
        rest += block
        end = _last_border(rest)
        if end:
            yield rest[:end] + b"]"
            rest = b"[" + rest[end:].lstrip()[1:]  # the comma becomes the bracket
    yield rest


def _last_border(text: bytes) -> int:
    """Where the last record that is followed by another one ends; 0 where there is none."""
    start = len(text)
    while (start := text.rfind(b"{", 0, start)) > 0:
        before = text[max(start - 64, 0) : start].rstrip()
        if before.endswith(b",") and before[:-1].rstrip().endswith(b"}"):
            return start - (min(start, 64) - len(before[:-1].rstrip()))
    return 0


def _name_record(data: bytes, error: msgspec.ValidationError) -> str:
    """The error, with the token of its record where the message says which one it is (``$[3].size``)."""
    text = str(error)
    position = text.partition("$[")[2].partition("]")[0]
    try:
        rows: Any = json.loads(data)
    except (ValueError, RecursionError):  # malformed after the wrong record
        return text
    if position.isdigit() and isinstance(rows, list) and isinstance(record := rows[int(position)], Mapping):
        return f"record {record.get('token', position)}: {text}"
    return text


def _read_with_nan(path: Path, data: bytes, row: type[Row], error: msgspec.DecodeError) -> list[Row]:
    """Python writes NaN into JSON, which is none: read such a table too, so that what holds the NaN can be named."""
    try:
        rows = json.loads(data)
        json.dumps(rows, ensure_ascii=False).encode()  # escapes that are half a character are no text
    except (ValueError, RecursionError) as broken:
        raise FileError(f"{path}: malformed JSON: {broken}") from error
    try:
        return msgspec.convert(rows, type=list[row])  # type: ignore[valid-type]
    except msgspec.ValidationError as invalid:
        raise FileError(f"{path}: {invalid}") from invalid


class Lookup:
    """Rows of a table by token.

    Raises:
        RecordError: two rows with one token, on construction.
    """

    def __init__(self, name: str, tokens: Sequence[str]) -> None:
        self.name = name
        self._row_of = {token: i for i, token in enumerate(tokens)}
        if len(self._row_of) != len(tokens):
            seen: set[str] = set()
            twice = next(t for t in tokens if t in seen or seen.add(t))  # type: ignore[func-returns-value]
            raise RecordError(f"table {name}: token {twice} names two records")

    def __getitem__(self, token: str) -> int:
        return self._row_of[token]

    def rows(self, tokens: Sequence[str], owners: Sequence[str], field: str) -> list[int]:
        """Row of each token.

        Args:
            owners: token of the record that refers to it, for the error message.
            field: ``table.field`` that the tokens come from.

        Raises:
            RecordError: a token that this table does not have.
        """
        try:
            return [self._row_of[token] for token in tokens]
        except KeyError:
            owner, token = next((o, t) for o, t in zip(owners, tokens) if t not in self._row_of)
            raise RecordError(
                f"{field} of record {owner} points to {token!r}, which is not in table {self.name}"
            ) from None
