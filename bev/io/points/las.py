"""LAS and LAZ files, versions 1.0 to 1.4, through laspy and lazrs (extra ``points``).

The library is kept: LAZ is an arithmetic coder that Python cannot run at speed, and laspy knows every point format.
What is ours checks the header against the file before laspy believes it, and keeps every dimension by its name.

Specification: ASPRS, "LAS specification 1.4 - R15".
"""

from __future__ import annotations

import copy
import io
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bev._optional import require
from bev.io.errors import FileError
from bev.io.points.columns import Columns, cast_exactly, make_cloud, read_bytes, to_numpy, whole_file
from bev.io.points.laz_check import check_chunks
from bev.structures import PointCloud

_COLOUR = ("red", "green", "blue")
_ROWS, _BLOCK_BYTES = 50_000, 1 << 23
# Description of an extra dimension that stands for a standard one, whose type cannot hold the values.
_REPLACES = "values of the standard field"
_VLR_BYTES, _EVLR_BYTES = 54, 60


def read_las(path: Path) -> PointCloud:
    """Read a LAS or LAZ file.

    Positions are float64 in the file's reference system, x = X * scale + offset, frame ``"global"``. Every dimension is
    a field under laspy's name (``intensity``, ``return_number``, ``classification``, ``gps_time`` ...), extra bytes
    included; ``red``, ``green``, ``blue`` are ``rgb`` (P, 3) uint16. ``meta["las"]`` has the version, point format,
    scales and offsets, and under ``header`` laspy's header with the variable length records.

    Raises:
        FileError: not a LAS file, a count beyond the file's end, or data that do not decompress.
        ImportError: laspy or lazrs is not installed.
    """
    path = Path(path)
    laspy = require("laspy", extra="points")
    data = read_bytes(path)
    _check_counts(data, path)
    header, raw = _decode(laspy, data, path)
    if not (np.isfinite(header.scales).all() and np.isfinite(header.offsets).all() and np.all(header.scales != 0)):
        raise FileError(f"{path}: scales {header.scales.tolist()} and offsets {header.offsets.tolist()} are not usable")
    record = laspy.ScaleAwarePointRecord(raw, header.point_format, header.scales, header.offsets)
    # Products and sums in the order of the specification: rounding on the way back finds the same integers.
    xyz = np.stack([raw[axis] * s + o for axis, s, o in zip("XYZ", header.scales, header.offsets)], 1)
    fields: Columns = {}
    for dimension in header.point_format.dimensions:
        if dimension.name not in ("X", "Y", "Z"):
            fields[dimension.name] = np.array(record[dimension.name])
    for dimension in header.point_format.extra_dimensions:
        if dimension.description == _REPLACES and dimension.name.endswith("_"):
            fields[dimension.name[:-1]] = fields.pop(dimension.name)
    if all(name in fields for name in _COLOUR):
        fields["rgb"] = np.stack([fields.pop(name) for name in _COLOUR], 1)
    facts = {"version": str(header.version), "point_format": header.point_format.id, "header": header}
    facts.update(scales=tuple(header.scales.tolist()), offsets=tuple(header.offsets.tolist()))
    return make_cloud(np.ascontiguousarray(xyz), fields, frame="global", meta={"las": facts})


def _check_counts(data: bytes, path: Path) -> None:
    """Hold the counts of the header against the file's length: laspy would loop or allocate by them."""
    if data[:4] != b"LASF" or len(data) < 227:
        raise FileError(f"{path}: {len(data)} bytes that do not start with a LAS header")
    major, minor = data[24], data[25]
    if major != 1 or minor > 4:
        raise FileError(f"{path}: LAS version {major}.{minor}, expected 1.0 to 1.4")
    header_size, start, vlrs, point_format, size, points = struct.unpack_from("<HIIBHI", data, 94)
    compressed, evlrs = bool(point_format & 0xC0), 0
    if minor == 4 and len(data) >= 375:
        evlrs, points = struct.unpack_from("<IQ", data, 243)
    if header_size < 227 or start < header_size or start > len(data):
        raise FileError(f"{path}: a header of {header_size} bytes and points from byte {start} of {len(data)}")
    if vlrs * _VLR_BYTES > len(data) or evlrs * _EVLR_BYTES > len(data):
        raise FileError(f"{path}: {vlrs} + {evlrs} variable length records do not fit in {len(data)} bytes")
    if not compressed and start + points * size > len(data):
        raise FileError(f"{path}: {points} points of {size} bytes are stated, {len(data) - start} bytes follow")
    if compressed and points:
        check_chunks(data, header_size, vlrs, start, path)


def _decode(laspy: ModuleType, data: bytes, path: Path) -> tuple[Any, np.ndarray]:
    """laspy's header and the packed points; whatever laspy and lazrs raise on broken data becomes a FileError."""
    try:
        # Not parallel: an error in a thread of lazrs would take the process along.
        backend = laspy.LazBackend.Lazrs
        with laspy.open(io.BytesIO(data), laz_backend=backend) as reader:
            count, blocks = int(reader.header.point_count), []
            if reader.header.point_format.size > 1 << 15:
                raise FileError(f"{path}: a point has {reader.header.point_format.size} bytes")
            # Compressed points in blocks: only what has been decoded shows whether the stated number is true.
            small = max(min(_ROWS, _BLOCK_BYTES // max(reader.header.point_format.size, 1)), 1)
            rows = small if reader.header.are_points_compressed else max(count, 1)
            for at in range(0, count, rows):
                blocks.append(reader.read_points(rows).array)
                if len(blocks[-1]) != min(rows, count - at):
                    raise FileError(f"{path}: {count} points are stated, {at + len(blocks[-1])} can be read")
            empty = np.zeros(0, reader.header.point_format.dtype())
            return reader.header, blocks[0] if len(blocks) == 1 else np.concatenate([empty, *blocks])
    except (FileError, ImportError, KeyboardInterrupt):
        raise
    except BaseException as error:
        # lazrs's Rust panics arrive as PanicException, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise FileError(f"{path}: not a readable LAS file: {type(error).__name__}: {error}") from error


def write_las(cloud: PointCloud, path: Path) -> None:
    """Write a LAS file, or LAZ where the name ends in ``.laz``, atomically.

    A cloud that was read from LAS keeps its version, point format, scales, offsets and records. For others the scale is
    the finest power of ten at which the positions fit into 32 bits (1e-7 m for 200 m). Fields that are no standard
    dimension, or hold values that its type cannot, become extra bytes; 8-bit ``rgb`` is stretched to LAS's 16 bits.

    Raises:
        FileError: a field or a point that LAS cannot hold, see `las_losses`.
        ImportError: laspy or lazrs is not installed.
    """
    path = Path(path)
    laspy = require("laspy", extra="points")
    if losses := las_losses(cloud):
        raise FileError(f"{path}: LAS cannot hold {', '.join(losses.values())}")
    xyz, fields = to_numpy(cloud)
    xyz = xyz.astype(np.float64, copy=False)
    rgb = fields.pop("rgb", None)
    if rgb is not None:
        fields.update(zip(_COLOUR, (rgb.astype(np.uint16) * (257 if rgb.dtype == np.uint8 else 1)).T))
    header = _header(laspy, cloud, fields)
    header.scales, header.offsets, whole = _scales(xyz, header.scales, header.offsets)
    standard = set(header.point_format.standard_dimension_names)
    columns: Columns = {}
    for name, column in fields.items():
        fitting = _fit(column, name, header)
        columns[f"{name}_" if fitting is None and name in standard else name] = column if fitting is None else fitting
    _add_extra(laspy, header, columns, standard)
    points = laspy.ScaleAwarePointRecord.zeros(len(cloud), header=header)
    for axis, column in zip("XYZ", whole.T):
        points.array[axis] = column
    for name, column in columns.items():
        points[name] = column
    with whole_file(path) as file:
        las = laspy.LasData(header, points)
        backend = laspy.LazBackend.Lazrs if path.suffix.lower() == ".laz" else None
        las.write(file, do_compress=backend is not None, laz_backend=backend)


def _header(laspy: ModuleType, cloud: PointCloud, fields: Columns) -> Any:
    own = cloud.meta.get("las", {}).get("header")
    if isinstance(own, laspy.LasHeader):
        return copy.deepcopy(own)
    has_colour, has_time = "red" in fields, "gps_time" in fields
    rich = {"scanner_channel", "overlap", "scan_angle", "nir"} & fields.keys()
    new = 7 if has_colour else 6
    return laspy.LasHeader(point_format=new if rich else 2 * has_colour + has_time, version="1.4" if rich else "1.2")


def _scales(
    xyz: np.ndarray, scales: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The given scales and offsets where they give exactly these positions, else the finest that fit; and integers."""
    whole = np.rint((xyz - offsets) / scales)
    if np.array_equal(whole * scales + offsets, xyz) and np.abs(whole).max(initial=0) < 2**31:
        return scales, offsets, whole.astype(np.int32)
    low, high = xyz.min(0), xyz.max(0)
    offsets = np.floor((low + high) / 2)
    reach = np.maximum(np.maximum(high - offsets, offsets - low), 1e-3)
    scales = 10.0 ** np.ceil(np.log10(reach / (2**31 - 1)))
    return scales, offsets, np.rint((xyz - offsets) / scales).astype(np.int32)


def _fit(column: np.ndarray, name: str, header: Any) -> np.ndarray | None:
    """The column in the type of the header's dimension; None where there is none or it cannot hold the values."""
    dimension = next((d for d in header.point_format.dimensions if d.name == name), None)
    if dimension is None or column.ndim > 1 + (dimension.num_elements > 1):
        return None
    if dimension.kind.name == "BitField":
        low, high = 0, (1 << dimension.num_bits) - 1
        inside = not len(column) or (low <= column.min() and column.max() <= high)
        return cast_exactly(column, np.uint8) if inside else None
    if dimension.is_scaled:
        return column
    return cast_exactly(column, dimension.dtype.base if dimension.dtype else np.uint8)


def _add_extra(laspy: ModuleType, header: Any, columns: Columns, standard: set[str]) -> None:
    known = set(header.point_format.dimension_names)
    for name, column in columns.items():
        if name in known:
            continue
        kind = np.dtype(np.uint8) if column.dtype == bool else column.dtype
        width = f"{column.shape[1]}" if column.ndim > 1 and column.shape[1] > 1 else ""
        note = _REPLACES if name.endswith("_") and name[:-1] in standard else ""
        header.add_extra_dim(laspy.ExtraBytesParams(name=name, type=f"{width}{kind.str[1:]}", description=note))


def las_losses(cloud: PointCloud) -> dict[str, str]:
    """What of a cloud LAS cannot hold, by field; ``points`` for points without a position, ``grid_hw`` for the grid."""
    xyz, fields = to_numpy(cloud)
    losses = {}
    if missing := int((~np.isfinite(xyz).all(1)).sum()):
        losses["points"] = f"{missing} points whose position is not finite"
    if cloud.grid_hw:
        losses["grid_hw"] = f"rows and columns {cloud.grid_hw}"
    for name, column in fields.items():
        if name == "rgb" and column.dtype in (np.uint8, np.uint16) and column.shape[1:] == (3,):
            continue
        if column.dtype.kind not in "iufb" or column.dtype == np.float16:
            losses[name] = f"field {name!r} of type {column.dtype}"
        elif not 0 < len(name.encode()) < 32 or name in ("X", "Y", "Z", "x", "y", "z", *_COLOUR):
            losses[name] = f"a field named {name!r}"
        elif column.ndim > 2 or not 1 <= int(np.prod(column.shape[1:])) <= (255 if column.dtype.kind == "u" else 3):
            losses[name] = f"field {name!r} of shape {tuple(column.shape)}"
    return losses
