"""Exported graphs at published full size: parity with torch, nodes, bytes, milliseconds, TensorRT-RTX.

``python -m benchmarks.export --case bevdet_r50`` measures one case, ``--all`` every one that the results do not have
yet, each in a process of its own (some need several GB). Rows go into ``benchmarks/results/export.{json,md}`` as they
come.

Weights are random but behave as trained ones (``benchmarks.weights``) unless given; pictures are noise, the rig is a
real car's. Temporal detectors are measured on a second frame, with the memory of the first. Milliseconds are the
processor's, so that a busy machine does not count; the first run of each is left out where there are several.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch

import bev.models  # noqa: F401  (registers the parts)
from benchmarks.export_table import CASES, Row, load, save
from benchmarks.frames import test_frame
from benchmarks.harness import alternate
from benchmarks.weights import like_trained
from bev.deploy import Exportable, ExportError, OnnxRunner, write_onnx
from bev.deploy.build import load_detector
from bev.deploy.check import against_float64, compare_results, predict
from bev.deploy.export import example_arrays
from bev.deploy.graph import DetectorGraph
from bev.deploy.onnx_graph import flops
from bev.engine import load_config
from bev.models.detectors import FrameStream, TemporalDetector
from bev.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]


def example_of(case: str, weights: str | None = None) -> Exportable:
    """The case's detector and one frame."""
    config = load_config(ROOT / CASES[case].config)
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval() if weights is None else load_detector(config, weights)
    size = CASES[case].size_px
    if size is not None:
        images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        if weights is None:
            like_trained(model, lambda: model(images))
        return Exportable(model, images, None, {})
    first, second = test_frame(config, 0), test_frame(config, 1)
    if weights is None:
        like_trained(model, lambda: model(second.images, second.rig))
    if not (isinstance(model, TemporalDetector) and model.remembers):
        return Exportable(model, second.images, second.rig, {})
    stream = FrameStream(model)
    with torch.no_grad():
        stream.forward(first)
        state = stream.enter(replace(second, images=first.images.roll(9, -1)))
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    return Exportable(model, second.images, second.rig, {}, state)


@torch.no_grad()
def measure(case: str, weights: str | None, runs: int, exact: bool, keep: Callable[[Row], None]) -> None:
    """Export, run, compare, build; the row is kept before the building, which takes longest, and after it."""
    example = example_of(case, weights)
    graph = example.graph(outputs="both")
    row: Row = {"case": case, "config": CASES[case].config, "weights": weights or "random", "reasons": {}}
    row["image"] = "x".join(str(side) for side in (*example.images.shape[1:-3], *example.images.shape[-2:]))
    row["parameters"] = sum(p.numel() for p in example.model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{case}.onnx"
        write_onnx(graph, path)
        proto = onnx.load(str(path))
        kinds = Counter(node.op_type for node in proto.graph.node)
        row |= {"nodes": sum(kinds.values()), "operators": dict(kinds.most_common(12))}
        try:
            row["gflops"] = flops(proto) / 1e9
        except ValueError as error:
            row["reasons"]["gflops"] = str(error)
        row["size_mb"] = path.stat().st_size / 1e6
        del proto
        row |= _compared(example, graph, path, runs)
        if exact:
            pairs = against_float64(graph, OnnxRunner(path, 1)(example_arrays(graph)))
            row["float64"] = {who: max(p[i].relative for p in pairs) for i, who in enumerate(("torch", "onnx"))}
        row["reasons"]["compiled_ms"] = "not run: torch.compile takes minutes of a core for each of these"
        keep({**row, "reasons": {**row["reasons"], "rtx": "not tried: the run was stopped before"}})
        keep({**row, **_engine(path, row["reasons"])})


def _compared(example: Exportable, graph: DetectorGraph, path: Path, runs: int) -> Row:
    """Parity and times."""
    runner, inputs = OnnxRunner(path, 1), example_arrays(graph)
    results: dict[str, Any] = {}

    def torch_run() -> None:
        results["boxes"] = predict(example)

    def onnx_run() -> None:
        results["given"] = runner(inputs)

    if runs > 1:
        times = alternate({"torch": torch_run, "onnx": onnx_run}, runs - 1, time.process_time)
    else:
        times = {name: _once(call) for name, call in (("torch", torch_run), ("onnx", onnx_run))}
    result = compare_results(graph, results["boxes"], results["given"])
    print(result.text(), flush=True)
    worst = max(result.outputs, key=lambda d: d.relative)
    return {
        "torch_ms": times["torch"],
        "onnx_ms": times["onnx"],
        "runs": runs,
        "raw": worst.relative,
        "raw_output": worst.name,
        "boxes": sum(b.count for b in result.boxes),
        "unmatched": sum(b.unmatched for b in result.boxes),
        "passed": result.passed,
    }


def _once(call: Any) -> float:
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def _engine(path: Path, reasons: dict[str, str], limit_s: float = 1800.0) -> Row:
    """Whether TensorRT-RTX parses and builds the file, in a process of its own."""
    command = [sys.executable, "-c", "import sys; from bev.deploy.tensorrt_rtx import build_engine; "]
    command[-1] += "build_engine(sys.argv[1], sys.argv[1] + '.engine')"
    try:
        found = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=limit_s, cwd=ROOT)
    except subprocess.TimeoutExpired:
        reasons["rtx"] = f"not finished in {limit_s:.0f} s on a busy machine"
        return {}
    if found.returncode == 0:
        return {"rtx": "yes"}
    last = (found.stderr.strip().splitlines() or ["no message"])[-1]
    if "ImportError" in last:
        reasons["rtx"] = "tensorrt_rtx is not installed here"
        return {}
    return {"rtx": f"no: {last[:120]}"}


def main() -> None:
    """One case, or all that are not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--case", choices=tuple(CASES))
    chosen.add_argument("--all", action="store_true", help="every case that the results do not have yet")
    parser.add_argument("--weights", help="checkpoint, or the official ONNX file of YOLOX")
    parser.add_argument("--runs", type=int, default=1, help="alternating runs of torch and onnxruntime")
    parser.add_argument("--float64", action="store_true", help="also the distances from a float64 run")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="folder of the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.case:
        keep = partial(save, args.results, names=tuple(CASES))
        measure(args.case, args.weights, args.runs, args.float64, keep)
        return
    for case in [name for name in CASES if name not in load(args.results)]:
        command = [sys.executable, "-m", "benchmarks.export", "--case", case, "--runs", str(args.runs)]
        command += ["--results", str(args.results), *(["--float64"] if args.float64 else [])]
        if subprocess.run(command, cwd=ROOT).returncode:
            print(f"{case}: failed, see above", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except ExportError as error:
        sys.exit(f"error: {error}")
