"""The nuScenes index at the size of trainval: building it, and opening it, against the devkit's own loading.

Tables of 850 scenes, 34,149 samples, 2.6 million sample_data and ego_pose and 1.17 million sample_annotation are made
up (2.6 GB in --root, kept for the next run). Each contestant runs in a fresh process, whose peak memory is that of
the whole process; boxes' velocities are compared. The devkit needs 8 GB: --skip-devkit leaves it out.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nuscenes_tables import TRAINVAL, write_tables

VERSION = "v1.0-trainval"
QUICK = {"scenes": 20, "samples": 800, "annotations": 27_000}
_COMPARED = 20_000


def build_ours(root: Path, out: Path) -> dict[str, Any]:
    """Build and save the index."""
    from bev.data.nuscenes.store import load_index

    start, cpu = time.perf_counter(), time.process_time()
    index = load_index(root, VERSION)
    measured = {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    rows = np.flatnonzero(index.box_center_m[:, 2] < np.inf)[:_COMPARED]
    np.savez(out, center=index.box_center_m[rows], velocity=index.box_velocity_mps[rows])
    return measured


def open_ours(root: Path, out: Path) -> dict[str, Any]:
    """Open the saved index as a run does: check it against the tables, make the data set of a split."""
    from bev.data import NuScenesDataset

    start = time.perf_counter()
    dataset = NuScenesDataset(str(root), VERSION, "train")
    return {"s": time.perf_counter() - start, "frames": len(dataset)}


def load_devkit(root: Path, out: Path) -> dict[str, Any]:
    """The official loader, then velocities of the boxes of the first frames in the index's order."""
    from nuscenes import NuScenes

    start, cpu = time.perf_counter(), time.process_time()
    devkit = NuScenes(VERSION, str(root), verbose=False)
    measured = {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    order = {s["token"]: i for i, s in enumerate(devkit.scene)}
    samples = sorted(devkit.sample, key=lambda s: (order[s["scene_token"]], s["timestamp"]))
    tokens: list[str] = []
    for sample in samples:
        tokens += sample["anns"]
        if len(tokens) >= _COMPARED:
            break
    center = [devkit.get("sample_annotation", t)["translation"] for t in tokens[:_COMPARED]]
    np.savez(out, center=center, velocity=[devkit.box_velocity(t) for t in tokens[:_COMPARED]])
    return measured


CONTESTANTS = {"build": build_ours, "open": open_ours, "devkit": load_devkit}


def _measure(name: str, root: Path, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.index", "--contestant", name, "--root", str(root), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _run_contestant(name: str, root: Path, out: Path) -> None:
    measured = CONTESTANTS[name](root, out)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**measured, "peak_mb": round(peak_kb / 1024)}))


def _row(case: str, ours: dict[str, Any], theirs: dict[str, Any] | None, difference: float | None) -> dict[str, Any]:
    row = {"case": case, "ours_ms": round(1e3 * ours["s"]), "ours_peak_mb": ours["peak_mb"]}
    if "cpu_s" in ours:
        row["ours_cpu_ms"] = round(1e3 * ours["cpu_s"])
    if theirs is None:
        return row
    if "cpu_s" in ours:
        row["cpu_ratio"] = round(theirs["cpu_s"] / ours["cpu_s"], 2)
    return row | {
        "baseline": "nuscenes-devkit 1.2.0: NuScenes(...)",
        "baseline_ms": round(1e3 * theirs["s"]),
        "baseline_cpu_ms": round(1e3 * theirs["cpu_s"]),
        "ratio": round(theirs["s"] / ours["s"], 2),
        "baseline_peak_mb": theirs["peak_mb"],
        "max_abs_diff": difference,
    }


def _largest_difference(first: Path, second: Path) -> float:
    """Of centres and velocities; a NaN on one side only is infinite."""
    a, b = np.load(first), np.load(second)
    worst = 0.0
    for name in ("center", "velocity"):
        if not np.array_equal(np.isnan(a[name]), np.isnan(b[name])):
            return float("inf")
        worst = max(worst, float(np.nanmax(abs(a[name] - b[name]))))
    return worst


def main() -> None:
    """Make the tables, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tables of 20 scenes")
    parser.add_argument("--threads", type=int, default=1, help="as of every benchmark; both contestants use one")
    parser.add_argument("--root", type=Path, help="where the tables are, or are made (default: a temporary folder)")
    parser.add_argument("--skip-devkit", action="store_true")
    parser.add_argument("--contestant", choices=sorted(CONTESTANTS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        _run_contestant(args.contestant, args.root, args.out)
        return
    with tempfile.TemporaryDirectory() as scratch:
        root, out = args.root or Path(scratch) / "nuscenes", Path(scratch)
        if not (root / VERSION / "sample_annotation.json").exists():
            print("tables:", write_tables(root / VERSION, **(QUICK if args.quick else TRAINVAL)))
        shutil.rmtree(root / VERSION / ".bev_index", ignore_errors=True)
        build = _measure("build", root, out / "ours.npz")
        opened = [_measure("open", root, out / "open.npz") for _ in range(5)]
        devkit = None if args.skip_devkit else _measure("devkit", root, out / "devkit.npz")
        difference = None if devkit is None else _largest_difference(out / "ours.npz", out / "devkit.npz")
    middle = {**opened[0], "s": statistics.median(run["s"] for run in opened)}
    size = "quick" if args.quick else "trainval"
    cases = [_row(f"build, {size}", build, devkit, difference), _row(f"open, {size}", middle, devkit, None)]
    for row in cases:
        print(f"{row['case']:30s} ours {row['ours_ms'] / 1e3:8.3f} s {row['ours_peak_mb']:6d} MB", end="")
        if devkit is not None:
            devkit_s, peak_mb = row["baseline_ms"] / 1e3, row["baseline_peak_mb"]
            print(f"   devkit {devkit_s:8.3f} s {peak_mb:6d} MB   x{row['ratio']}", end="")
        print()
    versions = {"numpy": np.__version__, "python": platform.python_version()}
    device = platform.processor() or platform.machine()
    print(json.dumps({"name": "index", "device": device, "threads": 1, "versions": versions, "cases": cases}))


if __name__ == "__main__":
    main()
