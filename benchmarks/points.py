"""Reading and writing 1 M points a format, against Open3D, pypcd4, laspy, plyfile and plain numpy, in one process.

    python -m benchmarks.points [--threads 1] [--quick]

Every contestant reads the same file, which ours wrote, into its own point cloud, or writes the same points from it to a
new file and deletes it, in a folder in memory where there is one (``/dev/shm``): over an old file those that cut it off
first would get its warm pages back, and ours, which keeps it until the new one is whole, would not. Points: x, y, z,
intensity float32. Times are of the processor, one thread.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import arguments, compare, report
from bev.io.points import read_points, write_points
from bev.structures import PointCloud

Calls = dict[str, Callable[[], Any]]


def made_points(count: int) -> PointCloud:
    """Random points with whole numbers as intensity."""
    rng = np.random.default_rng(0)
    xyz = rng.normal(0, 30, (count, 3)).astype(np.float32)
    intensity = rng.integers(0, 256, count).astype(np.float32)
    return PointCloud(torch.from_numpy(xyz), {"intensity": torch.from_numpy(intensity)})


def open3d_calls(path: Path, out: Path) -> tuple[Calls, Calls]:
    """Open3D's tensor API, which keeps intensities."""
    import open3d as o3d

    cloud = o3d.t.io.read_point_cloud(path)
    binary = not path.name.startswith("ascii")
    packed = path.name.startswith("binary_compressed")
    write = dict(write_ascii=not binary, compressed=packed)
    return (
        {"open3d": lambda: o3d.t.io.read_point_cloud(path)},
        {"open3d": lambda: o3d.t.io.write_point_cloud(out, cloud, **write)},
    )


def pypcd4_calls(path: Path, out: Path) -> tuple[Calls, Calls]:
    """pypcd4, its records turned into the (P, C) table that it offers."""
    import pypcd4

    cloud = pypcd4.PointCloud.from_path(str(path))
    encoding = pypcd4.pypcd4.Encoding(path.stem)
    return (
        {"pypcd4": lambda: pypcd4.PointCloud.from_path(str(path)).numpy()},
        {"pypcd4": lambda: cloud.save(str(out), encoding)},
    )


def laspy_calls(path: Path, out: Path) -> tuple[Calls, Calls]:
    """laspy with lazrs on one thread, read to positions in m and every dimension, as ours are."""
    import laspy

    backend = laspy.LazBackend.Lazrs
    las = laspy.read(path, laz_backend=backend)

    def read() -> list[Any]:
        points = laspy.read(path, laz_backend=backend)
        return [points.xyz, *(np.array(points[name]) for name in points.point_format.dimension_names)]

    return {"laspy": read}, {"laspy": lambda: las.write(str(out), laz_backend=backend)}


def plyfile_calls(path: Path, out: Path) -> tuple[Calls, Calls]:
    """plyfile, read to memory."""
    from plyfile import PlyData

    data = PlyData.read(str(path))
    return {"plyfile": lambda: PlyData.read(str(path))["vertex"].data.copy()}, {
        "plyfile": lambda: data.write(str(out))
    }


def numpy_calls(path: Path, out: Path) -> tuple[Calls, Calls]:
    """The two lines of every LiDAR repository."""
    table = np.fromfile(path, np.float32).reshape(-1, 4)
    return {"numpy.fromfile": lambda: torch.from_numpy(np.fromfile(path, np.float32).reshape(-1, 4))}, {
        "numpy.tofile": lambda: table.tofile(out)
    }


def deleting(write: Callable[[], Any], out: Path) -> Callable[[], Any]:
    """Write and delete what was written."""

    def call() -> None:
        write()
        out.unlink()

    return call


CASES: list[tuple[str, dict[str, Any], list[tuple[str, Callable[[Path, Path], tuple[Calls, Calls]]]]]] = [
    ("binary.pcd", {"encoding": "binary"}, [("open3d", open3d_calls), ("pypcd4", pypcd4_calls)]),
    ("binary_compressed.pcd", {"encoding": "binary_compressed"}, [("open3d", open3d_calls), ("pypcd4", pypcd4_calls)]),
    ("ascii.pcd", {"encoding": "ascii"}, [("open3d", open3d_calls), ("pypcd4", pypcd4_calls)]),
    ("kitti.bin", {}, [("numpy", numpy_calls)]),
    ("binary.ply", {"encoding": "binary_little_endian"}, [("open3d", open3d_calls), ("plyfile", plyfile_calls)]),
    ("points.las", {}, [("laspy", laspy_calls)]),
    ("points.laz", {}, [("laspy", laspy_calls)]),
]


def measure(cloud: PointCloud, folder: Path, runs: int) -> list[dict[str, Any]]:
    """Two rows, read and write, for each case and each baseline that is installed."""
    rows: list[dict[str, Any]] = []
    for name, options, baselines in CASES:
        path, out = folder / name, folder / f"out_{name}"
        write_points(cloud, path, lossy=True, **options)
        reads: Calls = {}
        writes: Calls = {}
        for module, calls in baselines:
            if importlib.util.find_spec(module) is None:
                print(f"{name}: {module} is not installed", file=sys.stderr)
                continue
            read, write = calls(path, out)
            reads.update(read)
            writes.update(write)
        loaded, clock = read_points(path), time.process_time
        writes = {baseline: deleting(call, out) for baseline, call in writes.items()}
        ours = deleting(lambda: write_points(loaded, out, **options), out)
        slow = name.startswith("ascii")
        few = min(runs, 3) if slow else runs
        rows += compare(f"read {name}", lambda: read_points(path), reads, few, clock)
        rows += compare(f"write {name}", ours, writes, few, clock)
        path.unlink()
    return rows


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "")
    count = 100_000 if args.quick else 1_000_000
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        rows = measure(made_points(count), Path(folder), 5 if args.quick else 9)
    report("points", args.threads, rows)


if __name__ == "__main__":
    main()
