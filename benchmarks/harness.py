"""Alternating runs in one process, medians, and the one JSON line that every benchmark ends with."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def arguments(description: str) -> argparse.Namespace:
    """--threads and --quick, applied to torch."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small inputs, few runs")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    return args


def compare(
    case: str,
    ours: Callable[[], Any],
    baselines: Mapping[str, Callable[[], Any]],
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
    memory: bool = False,
) -> list[dict[str, Any]]:
    """Median of alternating runs after one warm-up, one row a baseline; ``time.process_time`` suits busy machines.

    With ``memory`` one more run of each tells what it needs at its peak beyond what was there before (Linux).
    """
    contestants = {"ours": ours, **baselines}
    medians = alternate(contestants, runs, clock)
    peaks = {name: peak_mb(call) for name, call in contestants.items()} if memory else {}
    return [
        {
            "case": case,
            "ours_ms": round(medians["ours"], 3),
            "baseline": name,
            "baseline_ms": round(medians[name], 3),
            "ratio": round(medians[name] / medians["ours"], 2),
            **({"ours_peak_mb": peaks["ours"], "baseline_peak_mb": peaks[name]} if memory else {}),
        }
        for name in baselines
    ]


def alternate(
    contestants: dict[str, Callable[[], Any]], runs: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median ms of each in turns, after one warm-up turn."""
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(runs + 1):
        for name, call in contestants.items():
            start = clock()
            call()
            if turn:
                samples[name].append(1e3 * (clock() - start))
    return {name: statistics.median(values) for name, values in samples.items()}


def peak_mb(call: Callable[[], Any]) -> int:
    """MB that a call needs at its peak beyond what the process held before it (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else what earlier calls freed would be used again unseen
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status_mb("VmRSS")
    call()
    return round(max(0.0, _status_mb("VmHWM") - before))


def _status_mb(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def report(
    name: str, threads: int, cases: list[dict[str, Any]], untimed: Sequence[dict[str, Any]] = ()
) -> None:
    """A table for people, then one line of JSON for programs; ``untimed`` cases are in the latter only."""
    for row in cases:
        ours, theirs = f"{row['ours_ms']:9.2f} ms", f"{row['baseline_ms']:9.2f} ms"
        memory = f"  {row['ours_peak_mb']} MB, {row['baseline_peak_mb']} MB" if "ours_peak_mb" in row else ""
        print(f"{row['case']:38s} {ours}  {row['baseline']:28s} {theirs}  x{row['ratio']}{memory}")
    device = platform.processor() or platform.machine()
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    result = {"name": name, "device": device, "threads": threads, "versions": versions, "cases": [*cases, *untimed]}
    print(json.dumps(result))
