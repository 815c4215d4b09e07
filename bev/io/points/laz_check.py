"""What a LAZ file's compressed chunks state, held against the file: lazrs allocates by it before it reads.

Specification: Isenburg, "LASzip: lossless compression of LiDAR data" (2013), and the layered chunks of LAS 1.4 points.
"""

from __future__ import annotations

import struct
from pathlib import Path

from bev.io.errors import FileError

_LASZIP = 22204  # number of the record that describes the compression
_LAYERED = 3
# Layers of a chunk by type of item: positions and flags, colour, colour and infrared, waveform; bytes have one each.
_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
_BYTES = 14


def check_chunks(data: bytes, header_size: int, vlrs: int, start: int, path: Path) -> None:
    """Check the chunk table's place and count, and the sizes of the layers of each chunk.

    Args:
        data: the whole file, which has points.
        header_size, vlrs, start: bytes of the header, number of records behind it, byte at which the points start.

    Raises:
        FileError: what is stated does not fit into the file.
    """
    if start + 8 > len(data):
        raise FileError(f"{path}: the compressed points are cut off")
    # Stated in front of the points; -1: in the last 8 bytes.
    (table,) = struct.unpack_from("<q", data, start)
    if table == -1:
        (table,) = struct.unpack_from("<q", data, len(data) - 8)
    if not start <= table <= len(data) - 8:
        raise FileError(f"{path}: the table of the compressed chunks is at byte {table} of {len(data)}")
    (chunks,) = struct.unpack_from("<I", data, table + 4)
    if chunks > len(data):
        raise FileError(f"{path}: {chunks} compressed chunks are stated in {len(data)} bytes")
    layers, point_bytes = _layout(data, header_size, vlrs)
    at = start + 8
    while layers and at < table:
        # A chunk: its first point, the number of points, the size of each layer, the layers.
        sizes = at + point_bytes + 4
        if sizes + 4 * layers > table:
            raise FileError(f"{path}: a compressed chunk is cut off")
        end = sizes + 4 * layers + sum(struct.unpack_from(f"<{layers}I", data, sizes))
        if end > table:
            raise FileError(f"{path}: a compressed chunk states {end - at} bytes, {table - at} follow")
        at = end


def _layout(data: bytes, header_size: int, vlrs: int) -> tuple[int, int]:
    """Layers of a chunk and bytes of a point; (0, 0) where chunks are not layered."""
    at = header_size
    for _ in range(vlrs):
        if at + 54 > len(data):
            break
        number, length = struct.unpack_from("<HH", data, at + 18)
        body = data[at + 54 : at + 54 + length]
        at += 54 + length
        if number != _LASZIP or len(body) < 34 or struct.unpack_from("<H", body)[0] != _LAYERED:
            continue
        (count,) = struct.unpack_from("<H", body, 32)
        items = [struct.unpack_from("<HH", body, 34 + 6 * k) for k in range(min(count, (len(body) - 34) // 6))]
        layers = sum(size if kind == _BYTES else _LAYERS.get(kind, 0) for kind, size in items)
        return layers, sum(size for _, size in items)
    return 0, 0
