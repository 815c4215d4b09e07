"""The header of a PLY file (Greg Turk, "The PLY Polygon File Format", 1994)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bev.io.errors import FileError

ByteOrder = Literal["<", ">", "="]
Encoding = Literal["ascii", "binary_little_endian", "binary_big_endian"]
ENCODINGS: tuple[Encoding, ...] = ("ascii", "binary_little_endian", "binary_big_endian")
TYPES = {
    **dict(char="i1", uchar="u1", short="i2", ushort="u2", int="i4", uint="u4", float="f4", double="f8"),
    **dict(int8="i1", uint8="u1", int16="i2", uint16="u2", int32="i4", uint32="u4", float32="f4", float64="f8"),
}
NAMES = dict(i1="char", u1="uchar", i2="short", u2="ushort", i4="int", u4="uint", f4="float", f8="double")
_MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class Property:
    """A named number of an element, or a list of them where ``count`` is the type of its length."""

    name: str
    dtype: np.dtype
    count: np.dtype | None = None


@dataclass
class Element:
    """``count`` records of the same properties."""

    name: str
    count: int
    properties: list[Property]

    def record(self, order: ByteOrder) -> np.dtype:
        """One record, without lists, as a packed structure; byte order ``<``, ``>`` or the machine's own ``=``."""
        return np.dtype([(p.name, p.dtype.newbyteorder(order)) for p in self.properties])

    @property
    def has_lists(self) -> bool:
        """Whether records differ in length."""
        return any(p.count is not None for p in self.properties)


@dataclass(frozen=True)
class PLYHeader:
    """Encoding, elements in file order, comment lines (``comment`` and ``obj_info``) and where the data start."""

    encoding: Encoding
    elements: list[Element]
    comments: list[str]
    data_offset: int


def parse_header(data: bytes, path: Path) -> PLYHeader:
    """Read the header at the start of a file.

    Raises:
        FileError: no ``ply`` at the start, no ``end_header``, or a line that the format does not have.
    """
    encoding: Encoding | None = None
    elements: list[Element] = []
    comments: list[str] = []
    for number, (line, end) in enumerate(_lines(data, path)):
        words = line.split()
        if number == 0:
            if words != ["ply"]:
                raise FileError(f"{path}: the first line is {line[:40]!r}, expected 'ply'")
        elif not words:
            continue
        elif words[0] == "end_header":
            if encoding is None:
                raise FileError(f"{path}: the header states no format")
            return PLYHeader(encoding, elements, comments, end)
        elif words[0] in ("comment", "obj_info"):
            comments.append(line.strip())
        elif words[0] == "format" and len(words) >= 2 and words[1] in ENCODINGS:
            encoding = words[1]
        elif words[0] == "element":
            elements.append(_element(words, elements, path))
        elif words[0] == "property" and elements:
            elements[-1].properties.append(_property(words, elements[-1], path))
        else:
            raise FileError(f"{path}: header line {number + 1} is {line[:60]!r}, which PLY does not have there")
    raise FileError(f"{path}: the header has no end_header")


def _lines(data: bytes, path: Path) -> list[tuple[str, int]]:
    """Lines up to ``end_header`` and the offset behind each; lines end with LF, CR LF or CR."""
    found: list[tuple[str, int]] = []
    head, at = data[:_MAX_HEADER_BYTES], 0
    old_mac = b"\r" in head[:16] and b"\n" not in head[: head.find(b"\r") + 2]
    ending = b"\r" if old_mac else b"\n"
    while at < len(head):
        end = head.find(ending, at)
        end = len(head) if end < 0 else end
        line = head[at:end].decode("latin-1").rstrip("\r")
        found.append((line, min(end + 1, len(data))))
        if line.split() == ["end_header"]:
            break
        at = end + 1
    return found


def _element(words: list[str], before: list[Element], path: Path) -> Element:
    if len(words) != 3 or not (words[2].isascii() and words[2].isdigit() and len(words[2]) <= 18):
        raise FileError(f"{path}: {' '.join(words)[:60]!r} is not 'element NAME COUNT'")
    if any(e.name == words[1] for e in before):
        raise FileError(f"{path}: two elements are named {words[1]!r}")
    return Element(words[1], int(words[2]), [])


def _property(words: list[str], element: Element, path: Path) -> Property:
    if any(p.name == words[-1] for p in element.properties):
        raise FileError(f"{path}: element {element.name!r} has two properties {words[-1]!r}")
    if len(words) == 3 and words[1] in TYPES:
        return Property(words[2], np.dtype(TYPES[words[1]]))
    if len(words) == 5 and words[1] == "list" and TYPES.get(words[2], "f")[0] in "iu" and words[3] in TYPES:
        return Property(words[4], np.dtype(TYPES[words[3]]), np.dtype(TYPES[words[2]]))
    raise FileError(f"{path}: {' '.join(words)[:60]!r} is no property of a PLY element")


def format_header(header: PLYHeader) -> bytes:
    """The header as text; lists are not written."""
    lines = ["ply", f"format {header.encoding} 1.0", *header.comments]
    for element in header.elements:
        lines.append(f"element {element.name} {element.count}")
        lines += [f"property {NAMES[p.dtype.str[1:]]} {p.name}" for p in element.properties]
    return ("\n".join([*lines, "end_header"]) + "\n").encode("latin-1", "replace")
