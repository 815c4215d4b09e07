"""Leica PTX: organised scans, each with the scanner's pose and a transform to the common frame.

Own code: none of the libraries reads it. Layout of a scan: columns, rows, four lines of the scanner's place and axes,
the 4x4 transform row by row as it multiplies row vectors, then columns * rows lines x y z intensity [r g b], column by
column.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bev.io.errors import FileError
from bev.io.points.columns import Columns, make_cloud, positions, read_bytes, to_numpy, whole_file
from bev.io.points.pts import as_float64, intensity_and_colour
from bev.io.points.text import decode_lines, parse_rows, write_rows
from bev.structures import PointCloud

_HEADER_LINES = 10


def read_ptx(path: Path) -> PointCloud:
    """Read a PTX file, points in the common frame that its transforms lead to (``"global"``), float64.

    One scan is an organised cloud (``grid_hw``: rows, columns; points row by row). Of several the points follow each
    other, and ``scan`` (int32) says which they are of. Pixels without a return have the position of the scanner
    (0, 0, 0 in its own frame), as in the file. ``meta["ptx"]["scans"]`` has each scan's size, scanner and transform.

    Raises:
        FileError: a header that is cut off or no numbers, or fewer lines than it states.
    """
    path = Path(path)
    lines = [line for line in decode_lines(read_bytes(path), str(path)) if line]
    if not lines:
        raise FileError(f"{path}: the file is empty, expected a number of columns")
    clouds: list[np.ndarray] = []
    parts: list[Columns] = []
    scans: list[dict[str, Any]] = []
    at = 0
    while at < len(lines):
        scan = _header(lines[at : at + _HEADER_LINES], at, path)
        count = scan["rows"] * scan["columns"]
        rows = lines[at + _HEADER_LINES : at + _HEADER_LINES + count]
        if len(rows) < count:
            raise FileError(f"{path}: {count} points are stated, {len(rows)} lines follow")
        xyz, fields = _points(rows, scan, path)
        clouds.append(xyz)
        parts.append(fields)
        scans.append(scan)
        at += _HEADER_LINES + count
    return _join(clouds, parts, scans, path)


def _header(lines: list[str], at: int, path: Path) -> dict[str, Any]:
    if len(lines) < _HEADER_LINES:
        raise FileError(f"{path}: the header of the scan at line {at + 1} is cut off")
    sizes = lines[:2]
    if not all(s.isascii() and s.isdigit() and len(s) <= 18 for s in sizes):
        raise FileError(f"{path}: line {at + 1} starts no scan: {sizes[0][:30]!r}, {sizes[1][:30]!r} are no counts")
    where = f"{path}: scan at line {at + 1}"
    scanner = np.stack(parse_rows(lines[2:6], where, [np.dtype("f8")] * 3), 1)
    transform = np.stack(parse_rows(lines[6:10], where, [np.dtype("f8")] * 4), 1).T
    if not (np.isfinite(scanner).all() and np.isfinite(transform).all()):
        raise FileError(f"{where}: the scanner's pose or the transform is not finite")
    return {"columns": int(sizes[0]), "rows": int(sizes[1]), "scanner": scanner, "global_from_scan": transform}


def _points(lines: list[str], scan: dict[str, Any], path: Path) -> tuple[np.ndarray, Columns]:
    columns = parse_rows(lines, str(path)) if lines else [np.zeros(0)] * 4
    if len(columns) not in (4, 7):
        raise FileError(f"{path}: a line has {len(columns)} values, expected x y z intensity [r g b]")
    # In the file a column of pixels comes first; an organised cloud lies row by row.
    order = np.arange(len(lines)).reshape(scan["columns"], scan["rows"]).T.ravel()
    xyz = positions(*(c[order] for c in columns[:3]))
    transform = scan["global_from_scan"]
    if not np.array_equal(transform, np.eye(4)):
        xyz = xyz @ transform[:3, :3].T + transform[:3, 3]
    return xyz, intensity_and_colour([c[order] for c in columns[3:]], path)


def _join(xyz: list[np.ndarray], parts: list[Columns], scans: list[dict[str, Any]], path: Path) -> PointCloud:
    if any(part.keys() != parts[0].keys() for part in parts):
        raise FileError(f"{path}: some scans have colours and some have none")
    fields = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    grid = (scans[0]["rows"], scans[0]["columns"]) if len(scans) == 1 else None
    if grid is None:
        fields["scan"] = np.repeat(np.arange(len(scans), dtype=np.int32), [len(x) for x in xyz])
    return make_cloud(np.concatenate(xyz), fields, "global", grid_hw=grid, meta={"ptx": {"scans": scans}})


def write_ptx(cloud: PointCloud, path: Path) -> None:
    """Write an organised cloud as a PTX file of one scan, atomically.

    Positions are written as they are, with the identity as transform: they are in the common frame already. A cloud
    without an intensity gets 0.5 in its place, as Leica's software does.

    Raises:
        FileError: the cloud is not organised, or has a field that PTX cannot hold, see `ptx_losses`.
    """
    losses = ptx_losses(cloud)
    if losses:
        raise FileError(f"{path}: PTX cannot hold {', '.join(losses.values())}")
    xyz, fields = to_numpy(cloud)
    rows, columns = cloud.grid_hw or (len(cloud), 1)
    scans = cloud.meta.get("ptx", {}).get("scans", [])
    scanner = np.array(scans[0]["scanner"], float) if len(scans) == 1 else np.eye(4, 3, -1)
    intensity = fields.get("intensity", np.full(len(cloud), 0.5))
    table = [*xyz.T.astype(np.float64), as_float64(intensity), *(fields["rgb"].T if "rgb" in fields else ())]
    order = np.arange(len(cloud)).reshape(rows, columns).T.ravel()
    with whole_file(path) as file:
        file.write(f"{columns}\n{rows}\n".encode())
        write_rows(file, list(scanner.T))
        write_rows(file, list(np.eye(4).T))
        write_rows(file, [c[order] for c in table])


def ptx_losses(cloud: PointCloud) -> dict[str, str]:
    """What of a cloud PTX cannot hold, by field."""
    losses = {}
    for name, column in to_numpy(cloud)[1].items():
        intensity = name == "intensity" and column.ndim == 1 and column.dtype.kind in "iufb"
        if not intensity and not (name == "rgb" and column.dtype == np.uint8 and column.shape[1:] == (3,)):
            losses[name] = f"field {name!r} of type {column.dtype}"
    return losses
