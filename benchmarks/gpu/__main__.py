"""Times every Triton kernel, the detectors and their exported graphs on a CUDA device; writes gpu.json and gpu.md.

Against each kernel stand the plain torch form, eager and through ``torch.compile``; against the achieved rates a
measured copy and a measured matrix product. ``--device cpu --quick`` runs the same code on tiny inputs, where timings
mean nothing: its files must be put elsewhere by ``--out``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.cases import CASES
from benchmarks.gpu.clock import Clock, copy_bytes_per_s, matmul_flops_per_s
from benchmarks.gpu.engines import measure_engines
from benchmarks.gpu.models import measure_models
from benchmarks.gpu.operators import Deadline, Row, measure
from benchmarks.gpu.table import surroundings, write

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 if something could not be measured, which the table names; 2 if nothing could be."""
    args = _arguments(arguments)
    refusal = _refusal(args)
    if refusal:
        print(f"benchmarks.gpu: {refusal}", file=sys.stderr)
        return 2
    result = _run(args)
    write(args.out, result)
    rows = [*result["operators"], *result["models"], *result["engines"]]
    print(json.dumps(result))
    return int(any(row["problems"] for row in rows))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny inputs, few runs, one size an operator")
    parser.add_argument("--only", default="", metavar="TEXT", help="operators whose name holds TEXT; no models")
    parser.add_argument("--no-models", action="store_true", help="operators alone")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="default: benchmarks/results")
    parser.add_argument("--budget-s", type=float, default=400.0, help="after it nothing more is compiled (default 400)")
    return parser.parse_args(arguments)


def _refusal(args: argparse.Namespace) -> str | None:
    """Why there will be no table, in one line."""
    here = args.out.resolve() == RESULTS
    if args.device == "cpu":
        if not args.quick or here:
            return "--device cpu only tries the code: it needs --quick, and an --out that is not benchmarks/results"
        return None
    if not torch.cuda.is_available():
        return "no CUDA device, nothing was measured or written (--device cpu --quick --out FOLDER tries the code)"
    if find_spec("triton") is None:
        return "Triton is not installed, nothing was measured or written: pip install 'bevstack[triton]'"
    if here and (args.quick or args.only or args.no_models):
        return "a part of the measurements does not make the table: give --out a folder that is not benchmarks/results"
    return None


def _run(args: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(args.device)
    clock, deadline = Clock(device, args.quick), Deadline(args.budget_s)
    result: dict[str, Any] = {"name": "gpu", **surroundings(device), "copy_bytes_per_s": copy_bytes_per_s(clock)}
    result["matmul_flops_per_s"] = {
        str(dtype).removeprefix("torch."): matmul_flops_per_s(clock, dtype)
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
    }
    # Two thirds of the time for the operators, so that the models get theirs.
    result["operators"] = list(_told(_operators(args.only, clock, Deadline(args.budget_s * 2 / 3))))
    whole = not (args.only or args.no_models)
    result["models"] = list(_told(measure_models(clock, deadline))) if whole else []
    # Models may have used up the time: engines are few, and each that is begun is finished.
    spare = Deadline(args.budget_s / 2)
    result["engines"] = list(_told(measure_engines(clock, spare))) if whole else []
    return result


def _operators(only: str, clock: Clock, deadline: Deadline) -> Iterator[Row]:
    """Quickly: the first size of each."""
    first = {case.name: case for case in reversed(CASES)}
    for case in CASES:
        if only in case.name and (not clock.quick or first[case.name] is case):
            for dtype in case.dtypes:
                yield measure(case, dtype, clock, deadline)


def _told(rows: Iterator[Row]) -> Iterator[Row]:
    """Each row to the terminal as it comes: a run takes minutes."""
    for row in rows:
        name = row.get("operator") or f"{row['model']}, {row['what']}"
        times = ", ".join(f"{key[:-3]} {value:.3f}" for key, value in row.items() if key.endswith("_ms") and value)
        print(f"{name:34s} {row.get('dtype') or row['precision']:14s} {times}", *row["problems"], flush=True)
        yield row


if __name__ == "__main__":
    sys.exit(main())
