"""Named numpy columns in one file that opens without being read.

Layout: 8 magic bytes, the header's length as a little-endian uint64, the header (JSON: ``meta``, and of each column its
``dtype``, ``shape`` and ``offset``), then the columns' bytes, each aligned to 64. Opening maps the file: a process
touches only the pages it uses, and every worker shares them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bev.io.errors import FileError

_MAGIC = b"BEVCOLS1"
_ALIGN = 64


class _Column(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    offset: int


class _Header(msgspec.Struct):
    meta: dict[str, Any]
    columns: dict[str, _Column]


@dataclass(frozen=True, eq=False)
class Strings:
    """A column of texts.

    Attributes:
        data: (bytes,) uint8, all texts in UTF-8 one after the other.
        ends: (n,) int64, where each text ends.
    """

    data: np.ndarray
    ends: np.ndarray

    @staticmethod
    def pack(texts: Sequence[str]) -> Strings:
        """Column of the given texts."""
        encoded = [text.encode() for text in texts]
        ends = np.cumsum([len(e) for e in encoded], dtype=np.int64)
        return Strings(np.frombuffer(b"".join(encoded), np.uint8), ends.reshape(len(encoded)))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> str:
        if not 0 <= i < len(self.ends):
            raise IndexError(f"text {i} of {len(self.ends)}")
        start = int(self.ends[i - 1]) if i else 0
        return self.data[start : int(self.ends[i])].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        blob, start = self.data.tobytes(), 0
        for end in self.ends.tolist():
            yield blob[start:end].decode()
            start = end


def write_columns(path: Path, columns: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write columns and JSON-able ``meta`` atomically: readers see the old file or the whole new one."""
    arrays = {name: np.ascontiguousarray(column) for name, column in columns.items()}
    described, offset = {}, 0
    for name, array in arrays.items():
        described[name] = _Column(array.dtype.str, array.shape, offset)
        offset += -(-array.nbytes // _ALIGN) * _ALIGN
    header = msgspec.json.encode(_Header(dict(meta), described))
    header += b" " * (-(len(_MAGIC) + 8 + len(header)) % _ALIGN)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
            for array in arrays.values():
                file.write(array.tobytes())
                file.write(b"\0" * (-array.nbytes % _ALIGN))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_columns(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Map a column file.

    Returns:
        The columns, read-only, and ``meta``.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: it is not a whole column file.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(len(_MAGIC) + 8)
        length = int.from_bytes(head[len(_MAGIC) :], "little")
        if head[: len(_MAGIC)] != _MAGIC or len(head) + length > size:
            raise FileError(f"{path} is not a column file of this version")
        try:
            header = msgspec.json.decode(file.read(length), type=_Header)
        except msgspec.MsgspecError as error:
            raise FileError(f"{path}: the header is damaged: {error}") from error
    mapped = np.memmap(path, np.uint8, "r")
    return {name: _view(mapped, c, len(head) + length, path, name) for name, c in header.columns.items()}, header.meta


def _view(mapped: np.ndarray, column: _Column, base: int, path: Path, name: str) -> np.ndarray:
    dtype = np.dtype(column.dtype)
    start, size = base + column.offset, dtype.itemsize * int(np.prod(column.shape, dtype=np.int64))
    if dtype.hasobject or start + size > len(mapped):
        raise FileError(f"{path}: column {name!r} goes beyond the end of the file")
    return np.asarray(mapped[start : start + size]).view(dtype).reshape(column.shape)
