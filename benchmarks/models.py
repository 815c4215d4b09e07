"""Whole detectors: inference of ours against the same networks composed as published, on the same weights.

Images to raw outputs, one frame of six cameras, a real rig that stays the same (as in a recording). Ours three times:
as trained; with batch norms folded into convolutions, as ``tools/infer.py`` runs it; and as the graph that
``tools/export.py`` writes, in onnxruntime, as ``bev.deploy.Pipeline`` runs it. ``--only NAME`` measures one;
``--quick`` the smallest.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import bev.models  # noqa: F401 (registers the models)
from benchmarks.frames import test_frame
from benchmarks.full_size import shapes
from benchmarks.harness import compare, report
from benchmarks.published import published_detector
from bev.deploy import Exportable, OnnxRunner, write_onnx
from bev.deploy.export import example_arrays
from bev.engine.config import load_config
from bev.models.detectors import FrameStream, StreamingDetector
from bev.models.folding import fold_batch_norms
from bev.registry import MODELS
from bev.structures import Batch

ROOT = Path(__file__).resolve().parents[1]
# Runs are few where a frame takes minutes.
MODELS_RUN = {
    "configs/bevdet/bevdet_r50_nusc.py": 5,
    "configs/bevdepth/bevdepth_r50_2key_nusc.py": 3,
    "configs/bevformer/bevformer_tiny_nusc.py": 5,
    "configs/detr3d/detr3d_r101_dcn_nusc.py": 3,
}


@torch.no_grad()
def measure(name: str, runs: int) -> list[dict[str, Any]]:
    """One row; the maximal difference is that of all outputs, relative to each one's largest value."""
    config = load_config(ROOT / name)
    torch.manual_seed(0)
    model: Any = MODELS.build(config.model).eval()
    frames = [test_frame(config, index) for index in range(2)]
    state = None
    if isinstance(model, StreamingDetector):
        stream = FrameStream(model)
        stream.forward(frames[0])
        state = stream.enter(frames[1])

    folded = copy.deepcopy(model)
    fold_batch_norms(folded)

    def run(network: Any) -> Any:
        return network(frames[1].images, frames[1].rig, state)

    def published() -> Any:
        with published_detector(model):
            return run(model)

    exported, outputs = _exported(folded, frames[1], state, torch.get_num_threads())
    calls: dict[str, Callable[[], Any]]
    calls = {"published composition": published, "ours, norms not folded": partial(run, model)}
    errors = {baseline: _difference(run(folded), call()) for baseline, call in calls.items()}
    rows = compare(Path(name).stem, partial(run, folded), calls, runs, time.process_time, memory=True)
    rows = [{**row, "max_relative_diff": errors[row["baseline"]]} for row in rows]
    calls = {"published composition": published, "ours, eager": partial(run, folded)}
    written = compare(f"{Path(name).stem}, exported", exported, calls, runs, time.process_time, memory=True)
    return rows + [{**row, "max_relative_diff": outputs} for row in written]


def _exported(model: Any, frame: Batch, state: Any, threads: int) -> tuple[Callable[[], Any], float]:
    """A call of the model as an ONNX graph in onnxruntime, and how far its outputs are from those in torch."""
    graph = Exportable(model, frame.images, frame.rig, {}, state).graph(outputs="raw")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(graph, path)
        runner = OnnxRunner(path, threads)
    inputs = example_arrays(graph)
    expected = dict(zip(graph.facts.outputs, graph(*graph.example.values())))
    worst = 0.0
    for name, value in runner(inputs).items():
        true = expected[name]
        worst = max(worst, float((torch.from_numpy(value) - true).abs().max() / true.abs().max().clamp(min=1e-6)))
    return partial(runner, inputs), worst


def _difference(a: Any, b: Any) -> float:
    """Largest difference of any output as a share of that output's largest value."""
    worst = 0.0
    for key in shapes(a):
        x, y = _at(a, key), _at(b, key)
        if x.is_floating_point():
            worst = max(worst, float((x - y).abs().max() / y.abs().max().clamp(min=1e-6)))
    return worst


def _at(outputs: Any, key: str) -> torch.Tensor:
    for part in key.split("."):
        outputs = outputs[int(part) if part.isdigit() else part]
    return outputs


def main() -> None:
    """Every model, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=list(MODELS_RUN))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    chosen = [args.only] if args.only else list(MODELS_RUN)[: 1 if args.quick else None]
    report("models", args.threads, [row for name in chosen for row in measure(name, MODELS_RUN[name])])


if __name__ == "__main__":
    main()
