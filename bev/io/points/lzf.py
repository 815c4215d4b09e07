"""LZF, the compression of ``binary_compressed`` PCD files.

liblzf (through python-neo-lzf, extra ``points``) where it is installed, which is many times faster; the same format in
plain Python else, so that every PCD file opens everywhere. Format: a control byte c below 32 is followed by c + 1 plain
bytes; else its upper three bits are the length minus 2 of a copy (7: one more byte is added to it), and its lower five
bits and the next byte are the distance minus 1 back to it.
"""

from __future__ import annotations

from types import ModuleType

_MAX_COPY = 264
_MAX_DISTANCE = 1 << 13
# Three bytes of input make at most 264 of output.
MAX_RATIO = 88


def _library() -> ModuleType | None:
    try:
        import lzf
    except ImportError:
        return None
    return lzf if hasattr(lzf, "decompress") else None


def decompress(data: bytes, size: int) -> bytes:
    """Undo `compress`.

    Args:
        size: bytes that come out.

    Raises:
        ValueError: the data end early, point before their start, or do not give ``size`` bytes.
    """
    if size > len(data) * MAX_RATIO:
        raise ValueError(f"{len(data)} compressed bytes cannot hold {size}")
    if not size:
        return b""
    library = _library()
    out = library.decompress(data, size) if library else _decompress(data, size)
    if out is None or len(out) != size:
        raise ValueError(f"the compressed data hold {len(out or b'')} bytes, expected {size}")
    return bytes(out)


def compress(data: bytes) -> bytes:
    """LZF of the data, also where that is longer than they are."""
    if not data:
        return b""
    library = _library()
    out = library.compress(data, len(data) + len(data) // 16 + 64) if library else None
    return bytes(out) if out is not None else _compress(data)


def _decompress(data: bytes, size: int) -> bytes:
    out = bytearray()
    at, end = 0, len(data)
    while at < end and len(out) <= size:
        control = data[at]
        at += 1
        if control < 32:
            if at + control + 1 > end:
                raise ValueError("the compressed data end within a run")
            out += data[at : at + control + 1]
            at += control + 1
            continue
        length = (control >> 5) + 2
        need = 2 if length == 9 else 1
        if at + need > end:
            raise ValueError("the compressed data end within a copy")
        if length == 9:
            length += data[at]
        distance = ((control & 31) << 8 | data[at + need - 1]) + 1
        at += need
        start = len(out) - distance
        if start < 0:
            raise ValueError("a copy starts before the data")
        # A copy may overlap what it writes: it then repeats the bytes in between.
        piece = out[start : start + length]
        out += (piece * (-(-length // len(piece))))[:length] if distance < length else piece
    return bytes(out)


def _compress(data: bytes) -> bytes:
    out, seen = bytearray(), dict[bytes, int]()
    at = plain = 0
    last = len(data) - 2
    while at < last:
        key = data[at : at + 3]
        found = seen.get(key, -1)
        seen[key] = at
        if found < 0 or at - found > _MAX_DISTANCE:
            at += 1
            continue
        length = 3
        limit = min(_MAX_COPY, len(data) - at)
        while length < limit and data[found + length] == data[at + length]:
            length += 1
        _flush(out, data, plain, at)
        distance, short = at - found - 1, length - 2
        out.append(min(short, 7) << 5 | distance >> 8)
        if short >= 7:
            out.append(short - 7)
        out.append(distance & 255)
        at = plain = at + length
    _flush(out, data, plain, len(data))
    return bytes(out)


def _flush(out: bytearray, data: bytes, start: int, end: int) -> None:
    for at in range(start, end, 32):
        run = data[at : min(at + 32, end)]
        out.append(len(run) - 1)
        out += run
