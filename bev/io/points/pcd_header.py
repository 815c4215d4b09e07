"""The header of a PCD file, version 0.7 and what older writers left out.

Specification: pointclouds.org, "The PCD (Point Cloud Data) file format".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bev.io.errors import FileError

Encoding = Literal["ascii", "binary", "binary_compressed"]
ENCODINGS: tuple[Encoding, ...] = ("ascii", "binary", "binary_compressed")
KEYWORDS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
DEFAULT_VIEWPOINT = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
_KINDS = {"F": "f", "I": "i", "U": "u"}
_MAX_HEADER_BYTES = 1 << 20
_MAX_RECORD_BYTES = 1 << 20


@dataclass(frozen=True)
class PCDHeader:
    """What the header says.

    Attributes:
        names, dtypes, counts: of each field; a point has ``counts[k]`` numbers of field k. A field ``_`` is padding.
        width, height: the cloud is organised where the height is not 1.
        viewpoint: translation (m) and quaternion w, x, y, z of the sensor that saw the points.
        encoding: how the data follow.
        data_offset: byte at which they start.
    """

    names: tuple[str, ...]
    dtypes: tuple[np.dtype, ...]
    counts: tuple[int, ...]
    width: int
    height: int
    viewpoint: tuple[float, ...]
    encoding: Encoding
    data_offset: int

    @property
    def points(self) -> int:
        """P."""
        return self.width * self.height

    @property
    def record(self) -> np.dtype:
        """One point as a packed structure of fields ``f0``, ``f1`` ..."""
        parts = enumerate(zip(self.dtypes, self.counts))
        return np.dtype([(f"f{k}", d) if count == 1 else (f"f{k}", d, (count,)) for k, (d, count) in parts])


def parse_header(data: bytes, path: Path) -> PCDHeader:
    """Read the header at the start of a file.

    Raises:
        FileError: it ends without ``DATA``, or an entry is missing, is no number or contradicts another.
    """
    entries, offset = _entries(data, path)
    names = entries.get("FIELDS")
    if not names:
        raise FileError(f"{path}: the header names no FIELDS")
    sizes = _integers(entries, "SIZE", path, [4] * len(names))
    counts = _integers(entries, "COUNT", path, [1] * len(names))
    kinds = entries.get("TYPE", ["F"] * len(names))
    if not len(names) == len(sizes) == len(counts) == len(kinds):
        raise FileError(
            f"{path}: {len(names)} FIELDS, {len(sizes)} SIZE, {len(kinds)} TYPE and {len(counts)} COUNT entries"
        )
    dtypes = tuple(_dtype(kind, size, name, path) for kind, size, name in zip(kinds, sizes, names))
    _check_record(names, dtypes, counts, path)
    width, height = _extent(entries, path)
    encoding = " ".join(entries["DATA"]).lower()
    if encoding not in ENCODINGS:
        raise FileError(f"{path}: DATA {encoding!r} is none of {', '.join(ENCODINGS)}")
    viewpoint = _viewpoint(entries.get("VIEWPOINT", []), path)
    return PCDHeader(tuple(names), dtypes, tuple(counts), width, height, viewpoint, encoding, offset)


def _entries(data: bytes, path: Path) -> tuple[dict[str, list[str]], int]:
    """Words after each keyword, and where the data start."""
    entries: dict[str, list[str]] = {}
    at, limit = 0, min(len(data), _MAX_HEADER_BYTES)
    while at < limit:
        end = data.find(b"\n", at, limit)
        line, at = data[at : end if end >= 0 else limit], (end + 1 if end >= 0 else limit)
        words = line.split(b"#")[0].decode("latin-1").replace(",", " ").split()
        if not words:
            continue
        key = {"COLUMNS": "FIELDS"}.get(words[0].upper(), words[0].upper())
        if key not in KEYWORDS:
            shown = words[0][:40].encode("unicode_escape").decode()
            raise FileError(f"{path}: the header has {shown!r}, expected one of {', '.join(KEYWORDS)}")
        if key in entries:
            raise FileError(f"{path}: the header has two entries {key}")
        entries[key] = words[1:]
        if key == "DATA":
            return entries, at
    raise FileError(f"{path}: the header has no DATA entry in its first {limit} bytes")


def _integers(entries: dict[str, list[str]], key: str, path: Path, default: Sequence[int]) -> list[int]:
    words = entries.get(key)
    if words is None:
        return list(default)
    if not all(word.isascii() and word.isdigit() and len(word) <= 18 for word in words):
        raise FileError(f"{path}: {key} {' '.join(words)[:60]!r} is not made of whole numbers from 0 on")
    return [int(word) for word in words]


def _dtype(kind: str, size: int, name: str, path: Path) -> np.dtype:
    sizes = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}.get(kind.upper(), ())
    if size not in sizes and name != "_":
        raise FileError(f"{path}: field {name!r} has TYPE {kind[:9]!r} and SIZE {size}, which PCD does not have")
    if size in sizes:
        return np.dtype(f"<{_KINDS[kind.upper()]}{size}")
    if not 1 <= size <= _MAX_RECORD_BYTES:
        raise FileError(f"{path}: padding has SIZE {size}")
    return np.dtype(f"V{size}")  # padding of whatever size


def _check_record(names: Sequence[str], dtypes: Sequence[np.dtype], counts: Sequence[int], path: Path) -> None:
    used = [name for name in names if name != "_"]
    if len(set(used)) != len(used):
        raise FileError(f"{path}: two fields have one name: {' '.join(names)[:200]}")
    if min(counts) < 1 or sum(d.itemsize * c for d, c in zip(dtypes, counts)) > _MAX_RECORD_BYTES:
        raise FileError(
            f"{path}: COUNT {' '.join(map(str, counts))[:60]} is not 1 to {_MAX_RECORD_BYTES} bytes a point"
        )


def _extent(entries: dict[str, list[str]], path: Path) -> tuple[int, int]:
    numbers = {key: _integers(entries, key, path, []) for key in ("WIDTH", "HEIGHT", "POINTS")}
    for key, words in numbers.items():
        if key in entries and len(words) != 1:
            raise FileError(f"{path}: {key} has {len(words)} values, expected one")
    if not numbers["WIDTH"] and not numbers["POINTS"]:
        raise FileError(f"{path}: the header states neither WIDTH nor POINTS")
    height = numbers["HEIGHT"][0] if numbers["HEIGHT"] else 1
    width = numbers["WIDTH"][0] if numbers["WIDTH"] else numbers["POINTS"][0] // max(height, 1)
    points = numbers["POINTS"][0] if numbers["POINTS"] else width * height
    if width * height != points:
        raise FileError(f"{path}: WIDTH {width} times HEIGHT {height} is not POINTS {points}")
    return width, height


def _viewpoint(words: Sequence[str], path: Path) -> tuple[float, ...]:
    if not words:
        return DEFAULT_VIEWPOINT
    try:
        values = tuple(float(word) for word in words)
    except ValueError as error:
        raise FileError(f"{path}: VIEWPOINT {' '.join(words)[:60]!r} is not made of numbers") from error
    if len(values) != 7 or not all(map(math.isfinite, values)):
        raise FileError(f"{path}: VIEWPOINT has {len(values)} values, expected 7 finite ones")
    return values


def format_header(header: PCDHeader) -> bytes:
    """The header as text, with everything that version 0.7 has."""
    letters = {"f": "F", "i": "I", "u": "U", "b": "U"}
    lines = {
        "VERSION": "0.7",
        "FIELDS": " ".join(header.names),
        "SIZE": " ".join(str(d.itemsize) for d in header.dtypes),
        "TYPE": " ".join(letters[d.kind] for d in header.dtypes),
        "COUNT": " ".join(map(str, header.counts)),
        "WIDTH": str(header.width),
        "HEIGHT": str(header.height),
        "VIEWPOINT": " ".join(f"{v:.17g}" for v in header.viewpoint),
        "POINTS": str(header.points),
        "DATA": header.encoding,
    }
    return b"# .PCD v0.7 - Point Cloud Data file format\n" + "".join(f"{k} {v}\n" for k, v in lines.items()).encode()
