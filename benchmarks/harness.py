"""Alternating runs in one process, medians, and the one JSON line that every benchmark ends with."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
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
    baselines: dict[str, Callable[[], Any]],
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, Any]]:
    """Median of alternating runs after one warm-up, one row a baseline; ``time.process_time`` suits busy machines."""
    contestants = {"ours": ours, **baselines}
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(runs + 1):
        for name, call in contestants.items():
            start = clock()
            call()
            if turn:
                samples[name].append(1e3 * (clock() - start))
    medians = {name: statistics.median(values) for name, values in samples.items()}
    return [
        {
            "case": case,
            "ours_ms": round(medians["ours"], 3),
            "baseline": name,
            "baseline_ms": round(medians[name], 3),
            "ratio": round(medians[name] / medians["ours"], 2),
        }
        for name in baselines
    ]


def report(
    name: str, threads: int, cases: list[dict[str, Any]], untimed: Sequence[dict[str, Any]] = ()
) -> None:
    """A table for people, then one line of JSON for programs; ``untimed`` cases are in the latter only."""
    for row in cases:
        ours, theirs = f"{row['ours_ms']:9.2f} ms", f"{row['baseline_ms']:9.2f} ms"
        print(f"{row['case']:38s} {ours}  {row['baseline']:28s} {theirs}  x{row['ratio']}")
    device = platform.processor() or platform.machine()
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    result = {"name": name, "device": device, "threads": threads, "versions": versions, "cases": [*cases, *untimed]}
    print(json.dumps(result))
