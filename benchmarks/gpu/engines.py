"""Exported graphs on the device: AOTInductor packages and, where TensorRT is installed, engines; against torch.

Everything in float32 without TF32, so that the errors are those of the graph and not of rounded products.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import bev.models  # noqa: F401 (registers the models)
from benchmarks.frames import test_frame
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.models import CONFIGS
from benchmarks.gpu.operators import Deadline, Row, attempt
from bev.deploy import AotiRunner, EngineOptions, EngineRunner, Exportable, build_engine, write_aoti, write_onnx
from bev.deploy.export import example_arrays
from bev.deploy.graph import DetectorGraph
from bev.deploy.parity import compare
from bev.engine.config import load_config
from bev.models.detectors import TemporalDetector
from bev.registry import MODELS

ENGINES_RUN = ("bevdet/bevdet_r50_nusc.py", "bevformer/bevformer_tiny_nusc.py")
QUICK = ("detr3d/detr3d_tiny_synthetic.py",)
# Candidates of nearly equal score may come in any order.
_RANKED = ("boxes", "label", "valid", "seen", "evidence")
Call = Callable[[], Any]


def measure_engines(clock: Clock, deadline: Deadline) -> Iterator[Row]:
    """A row a graph and form."""
    for name in QUICK if clock.quick else ENGINES_RUN:
        row = _row(name, "torch, eager")
        graph = attempt(row, "building", lambda: _graph(name, clock.device))
        if graph is None:
            yield row
            continue
        with _exact(), TemporaryDirectory() as folder:
            with torch.inference_mode():
                wanted = dict(zip(graph.facts.outputs, graph(*graph.example.values())))
            yield _eager(row, graph, clock)
            for what, form in _forms(clock).items():
                yield _measure(_row(name, what), form, graph, wanted, Path(folder), clock, deadline)


def _row(name: str, what: str) -> Row:
    return {"model": Path(name).stem, "what": what, "precision": "float32", "problems": []}


def _forms(clock: Clock) -> dict[str, Any]:
    """What can be built here. An absent TensorRT is no failure."""
    forms: dict[str, Any] = {"AOTInductor": _aoti}
    if clock.device.type == "cuda" and find_spec("tensorrt") is not None:
        forms["TensorRT"] = _tensorrt
    return forms


@contextmanager
def _exact() -> Iterator[None]:
    """No TF32 in here."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _graph(name: str, device: torch.device) -> DetectorGraph:
    """The configuration's detector with random weights, as a graph on the device."""
    config = load_config(CONFIGS / name)
    torch.manual_seed(0)
    model: Any = MODELS.build(config.model).eval()
    frame = test_frame(config, 0)
    if isinstance(model, TemporalDetector) and model.remembers:
        example = Exportable.streaming(model, frame, {})
    else:
        example = Exportable(model, frame.images, frame.rig, {})
    graph = example.graph(outputs="both").to(device)
    graph.example = {key: value.to(device) for key, value in graph.example.items()}
    return graph


def _eager(row: Row, graph: DetectorGraph, clock: Clock) -> Row:
    inputs = list(graph.example.values())
    with torch.inference_mode():
        row["network_ms"] = attempt(row, "timing", lambda: clock.median_ms(lambda: graph(*inputs)))
    return row


def _measure(
    row: Row, form: Any, graph: DetectorGraph, wanted: Mapping[str, Any], folder: Path, clock: Clock, deadline: Deadline
) -> Row:
    """Build, compare, time; what fails is named in the row."""
    if deadline.passed:
        row["problems"].append("compiled: no time left")
        return row
    start = time.monotonic()
    built = attempt(row, "building", lambda: form(graph, folder))
    if built is None:
        return row
    path, run, network_ms = built
    row |= {"build_s": round(time.monotonic() - start, 1), "size_mb": round(path.stat().st_size / 1e6, 1)}
    row["error"] = attempt(row, "comparing", lambda: _error(wanted, run()))
    row["call_ms"] = attempt(row, "timing", lambda: clock.median_ms(run))
    row["network_ms"] = attempt(row, "timing the network", lambda: network_ms(clock))
    return row


def _error(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    """Largest difference of the raw outputs and scores as a share of each one's largest magnitude."""
    names = [name for name in wanted if name not in _RANKED]
    worst = max(d.relative for d in compare({n: wanted[n].cpu() for n in names}, {n: found[n] for n in names}))
    if worst != worst:
        raise ValueError("not a number")
    return worst


def _aoti(graph: DetectorGraph, folder: Path) -> tuple[Path, Call, Callable[[Clock], float]]:
    """File, a call from host to host, and the network's own time on inputs that are on the device."""
    path = write_aoti(graph, folder / "graph.aoti.pt2")
    runner, inputs = AotiRunner(path), example_arrays(graph)
    tensors = list(graph.example.values())

    def network_ms(clock: Clock) -> float:
        with torch.inference_mode():
            return clock.median_ms(lambda: runner.module(*tensors))

    return path, lambda: runner(inputs), network_ms


def _tensorrt(graph: DetectorGraph, folder: Path) -> tuple[Path, Call, Callable[[Clock], float]]:
    """The same of an engine, whose runner measures the network by itself."""
    on_host = copy.deepcopy(graph).cpu()
    on_host.example = {key: value.cpu() for key, value in graph.example.items()}
    write_onnx(on_host, folder / "graph.onnx")
    path = build_engine(folder / "graph.onnx", folder / "graph.engine", EngineOptions(batch=(1, 1, 1)))
    runner, inputs = EngineRunner(path), example_arrays(on_host)

    def network_ms(clock: Clock) -> float:
        times = []
        for _ in range(10 if clock.quick else 50):
            runner(inputs)
            times.append(runner.times_ms["network"])
        return sorted(times)[len(times) // 2]

    return path, lambda: runner(inputs), network_ms
