"""What each change before export is worth: nodes, operations, bytes, milliseconds, and how far the numbers move."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from bev._optional import require
from bev.deploy.build import Exportable
from bev.deploy.export import example_arrays, save_onnx, to_onnx
from bev.deploy.graph import DetectorGraph
from bev.deploy.onnx_graph import flops
from bev.deploy.parity import compare
from bev.deploy.runtime import Arrays, OnnxRunner
from bev.deploy.surgery import Surgery
from bev.models.reparam import Reparameterised

NOTHING = Surgery(False, False, False, False, False, False)
STEPS = {
    "fuse_branches": "branches fused",
    "fold_norms": "batch norms folded",
    "merge_qkv": "queries, keys, values merged",
    "fold_constants": "constants folded",
    "merge_convs": "parallel convolutions merged",
    "pools_as_convs": "average pooling as convolution",
}


@dataclass(frozen=True)
class Step:
    """A graph after one more change.

    Attributes:
        name: of the change.
        nodes: of the graph.
        gflops: of its convolutions and matrix products; None where sizes vary.
        size_mb: of the file.
        ms: median of the processor's time of a run in onnxruntime, one thread.
        moved: largest difference of a raw output or score from the graph without any change, relative to its magnitude.
    """

    name: str
    nodes: int
    gflops: float | None
    size_mb: float
    ms: float
    moved: float


def surgery_report(example: Exportable, bake: bool = False, pools: bool = False, runs: int = 5) -> list[Step]:
    """Write the graph again and again, with one change more each time.

    Args:
        example: detector and frames.
        bake: make the calibration a constant, so that what follows from it can be folded.
        pools: also average pooling as convolution, which is off by default.
        runs: of onnxruntime, alternating between the graphs.
    """
    names = [name for name in STEPS if _applies(example.model, name) and (pools or name != "pools_as_convs")]
    surgery, variants = NOTHING, {"as trained": NOTHING}
    for name in names:
        surgery = replace(surgery, **{name: True})
        variants[STEPS[name]] = surgery
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.onnx" for index in range(len(variants))]
        inputs: Arrays = {}
        last: tuple[bool, ...] | None = None
        made: tuple[Any, DetectorGraph] | None = None
        for path, chosen in zip(paths, variants.values()):
            # A detector that is not changed need not be exported again: the rest is done to the model.
            in_torch = chosen.fuse_branches, chosen.fold_norms, chosen.merge_qkv
            if made is None or in_torch != last:
                graph = example.graph(bake, "both", surgery=chosen)
                last, made, inputs = in_torch, (to_onnx(graph), graph), example_arrays(graph)
            save_onnx(made[0].model_proto, made[1], path, chosen)
        results, times = _run(paths, inputs, runs)
        return [_step(*row) for row in zip(variants, paths, times, results, [results[0]] * len(paths))]


def _applies(model: nn.Module, name: str) -> bool:
    kinds = {"fuse_branches": Reparameterised, "merge_qkv": nn.MultiheadAttention}
    return name not in kinds or any(isinstance(part, kinds[name]) for part in model.modules())


def _run(paths: Sequence[Path], inputs: Arrays, runs: int) -> tuple[list[Arrays], list[float]]:
    """Outputs of each file, and median ms of alternating runs after one warm-up."""
    runners = [OnnxRunner(path, threads=1) for path in paths]
    results = [runner(inputs) for runner in runners]
    samples: list[list[float]] = [[] for _ in runners]
    for _ in range(runs):
        for runner, taken in zip(runners, samples):
            start = time.process_time()
            runner(inputs)
            taken.append(1e3 * (time.process_time() - start))
    return results, [statistics.median(taken) for taken in samples]


def _step(name: str, path: Path, ms: float, given: Arrays, first: Arrays) -> Step:
    model: Any = require("onnx", extra="export").load(str(path))
    try:
        gflops: float | None = flops(model) / 1e9
    except ValueError:
        gflops = None
    ranked = {"boxes", "label", "valid", "seen", "evidence"}  # near scores may change places
    moved = compare({n: v for n, v in first.items() if n not in ranked}, given)
    size_mb = path.stat().st_size / 1e6
    return Step(name, len(model.graph.node), gflops, size_mb, ms, max(d.relative for d in moved))


def table(steps: Sequence[Step]) -> str:
    """Markdown."""
    lines = ["| graph | nodes | GFLOP | MB | ms | moved |", "|---|---|---|---|---|---|"]
    for step in steps:
        gflops = "" if step.gflops is None else f"{step.gflops:.3f}"
        lines.append(
            f"| {step.name} | {step.nodes:,} | {gflops} | {step.size_mb:.2f} | {step.ms:.1f} | {step.moved:.1e} |"
        )
    return "\n".join(lines)
