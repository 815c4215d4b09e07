"""Writing PCD files, version 0.7."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bev.io.errors import FileError
from bev.io.points import lzf
from bev.io.points.columns import Columns, to_numpy, whole_file, write_records
from bev.io.points.pcd_header import DEFAULT_VIEWPOINT, ENCODINGS, Encoding, PCDHeader, format_header
from bev.io.points.text import write_rows
from bev.structures import PointCloud


def write_pcd(cloud: PointCloud, path: Path, encoding: Encoding | None = None) -> None:
    """Write a PCD file, version 0.7, atomically.

    Args:
        encoding: default: that of the file the cloud was read from, else binary.

    Raises:
        FileError: a field that PCD cannot hold, see `pcd_losses`.
        ValueError: an encoding that PCD does not have.
    """
    own = cloud.meta.get("pcd", {})
    encoding = encoding or own.get("encoding", "binary")
    if encoding not in ENCODINGS:
        raise ValueError(f"PCD encoding {encoding!r} is none of {', '.join(ENCODINGS)}")
    if losses := pcd_losses(cloud):
        raise FileError(f"{path}: PCD cannot hold {', '.join(losses.values())}")
    columns = _pcd_columns(cloud)
    height, width = cloud.grid_hw or (1, len(cloud))
    widths = [int(np.prod(c.shape[1:])) for c in columns.values()]
    types = [c.dtype.newbyteorder("<") for c in columns.values()]
    view = tuple(own.get("viewpoint", DEFAULT_VIEWPOINT))
    header = PCDHeader(tuple(columns), tuple(types), tuple(widths), width, height, view, encoding, 0)
    with whole_file(path) as file:
        file.write(format_header(header))
        if encoding == "ascii":
            write_rows(
                file, [c for w, column in zip(widths, columns.values()) for c in column.reshape(len(column), w).T]
            )
        elif encoding == "binary":
            write_records(file, list(columns.values()), header.record)
        else:
            plain = b"".join(np.ascontiguousarray(c, t).tobytes() for c, t in zip(columns.values(), types))
            packed = lzf.compress(plain)
            file.write(np.array([len(packed), len(plain)], "<u4").tobytes() + packed)


def pcd_losses(cloud: PointCloud) -> dict[str, str]:
    """What of a cloud PCD cannot hold, by field."""
    _, fields = to_numpy(cloud)
    losses: dict[str, str] = {}
    for name, column in fields.items():
        if column.dtype.kind not in "iufb" or column.dtype == np.float16:
            losses[name] = f"field {name!r} of type {column.dtype}"
        elif not name or name.lower() in ("x", "y", "z", "_") or any(c.isspace() or c in "#," for c in name):
            losses[name] = f"a field named {name!r}"
        elif name in ("rgb", "rgba") and column.ndim == 1 and column.itemsize == 4:
            losses[name] = f"field {name!r} of one number, which would be read as a packed colour"
        elif name == "rgba" and all(_packs(fields)):
            losses[name] = "field 'rgba' beside rgb and alpha"
        elif column.ndim > 1 and not 1 <= int(np.prod(column.shape[1:])) <= 1 << 16:
            losses[name] = f"field {name!r} of shape {column.shape}"
    return losses


def _packs(fields: Columns) -> tuple[bool, bool]:
    """Whether the colour, and with it an alpha, goes into four bytes as PCL has them."""
    rgb, alpha = fields.get("rgb"), fields.get("alpha")
    colour = rgb is not None and rgb.dtype == np.uint8 and rgb.shape[1:] == (3,)
    return colour, colour and alpha is not None and alpha.dtype == np.uint8 and alpha.ndim == 1


def _pcd_columns(cloud: PointCloud) -> Columns:
    xyz, fields = to_numpy(cloud)
    colour, with_alpha = _packs(fields)
    columns: Columns = dict(zip("xyz", xyz.T))
    for name, column in fields.items():
        if name == "rgb" and colour:
            columns["rgba" if with_alpha else "rgb"] = _pack(column, fields["alpha"] if with_alpha else None)
        elif name != "alpha" or not with_alpha:
            columns[name] = column.astype(np.uint8) if column.dtype == bool else column
    return columns


def _pack(rgb: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    bgra = np.zeros((len(rgb), 4), np.uint8)
    bgra[:, :3] = rgb[:, ::-1]
    if alpha is not None:
        bgra[:, 3] = alpha
    return bgra.view("<u4")[:, 0]
