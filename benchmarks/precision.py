"""Precisions of exported detectors: size, milliseconds in onnxruntime and score, float32 beside fewer bits.

    python -m benchmarks.precision --bccd data/bccd/BCCD --bccd-work work_dirs/bccd \
        --synthetic data/synthetic --synthetic-work work_dirs/demo [--only yolox_nano ...]

Trained checkpoints are needed: of ``python -m benchmarks.bccd`` (one folder a detector) and of ``make demo``. Scales
are chosen on training frames (default recipe of ``tools/export.py --precision``), scores are those of all test
frames: AP of BCCD's test split, NDS of the synthetic world's held-out recordings. ``int8`` is placed for TensorRT,
``int8-onnxruntime`` for onnxruntime's kernels on a CPU; ``mixed`` is int8 with the costliest tenth of the layers in
float16. ``--checkpoint NAME=DIR`` adds a row for another checkpoint of a case's
configuration, pruned or trained with quantisation (``yolox_nano:qat=DIR``: after the colon comes the row's own name).
Milliseconds are processor time of one frame on one thread, the median of alternating runs. Rows that are there are
kept; ``--again`` measures anew.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import bev.models  # noqa: F401  (registers the parts)
from benchmarks.bccd import options_of
from benchmarks.harness import alternate
from bev._optional import require
from bev.deploy.build import Exportable, frames_of, load_detector
from bev.deploy.export import describe, to_onnx
from bev.deploy.graph import GraphFacts
from bev.deploy.quantize import (
    GraphFrames,
    Network,
    OutputError,
    Placement,
    Recipe,
    quantize_graph,
    score_graph,
    sensitivities,
)
from bev.deploy.quantize.command import trained_thresholds
from bev.deploy.quantize.half import to_half
from bev.deploy.quantize.mixed import mixed_graph
from bev.deploy.quantize.network import without_stack_traces
from bev.deploy.quantize.ranges import magnitudes, run, session
from bev.deploy.quantize.score import main_score
from bev.engine import load_config

PRECISIONS = ("fp32", "fp16", "int8", "int8-onnxruntime", "mixed")
BCCD = ("yolox_nano", "ppyoloe_nano", "yolov5_nano", "one_to_one_nano")
COLUMNS = ("case", "precision", "score", "points to fp32", "layers in int8", "MB", "ms", "fp32 ms", "weights of 0, %")


@dataclass(frozen=True)
class Case:
    """A trained detector."""

    name: str
    config: Any
    checkpoint: str
    metric: str


def cases(args: argparse.Namespace) -> list[Case]:
    """Those whose checkpoints are given."""
    found = []
    if args.bccd_work is not None:
        options = options_of(args.bccd)
        paths = [(name, f"configs/bccd/{name}_bccd.py") for name in BCCD]
        found += [Case(n, load_config(p, options), str(args.bccd_work / n), "AP") for n, p in paths]
    if args.synthetic_work is not None:
        loaders = [f"{name}_dataloader.dataset.root={args.synthetic}" for name in ("train", "val", "test")]
        config = load_config(
            "configs/bevdet/bevdet_tiny_synthetic.py", [*loaders, f"test_evaluator.root={args.synthetic}"]
        )
        found.append(Case("bevdet_tiny", config, str(args.synthetic_work), "NDS"))
    return [case for case in found if args.only is None or case.name in args.only]


def exported(case: Case) -> tuple[Any, GraphFacts]:
    """The float32 graph of one frame, without notes of its making."""
    model = load_detector(case.config, case.checkpoint)
    if case.metric == "AP":
        size = case.config.test_dataloader.dataset.size
        example = Exportable(model, torch.zeros(1, 3, *size, dtype=torch.uint8), None, {})
    else:
        frame = frames_of(case.config, 1)
        example = Exportable(model, frame.images, frame.rig, {})
    graph = example.graph()
    proto = to_onnx(graph).model_proto
    without_stack_traces(proto)
    onnx = require("onnx", extra="export")
    proto.metadata_props.append(
        onnx.StringStringEntryProto(key="bevstack", value=json.dumps(describe(graph.facts, {"case": case.name})))
    )
    return proto, graph.facts


def graphs(
    model: Any, frames: Sequence[Any], wanted: Sequence[str], known: dict[str, float] | None
) -> dict[str, tuple[Any, int]]:
    """Graph and number of int8 layers by precision; ``known`` thresholds are those of training with quantisation."""
    made: dict[str, tuple[Any, int]] = {"fp32": (model, 0)}
    sizes = magnitudes(Network(model), frames) if {"fp16", "mixed"} & set(wanted) else {}
    if "fp16" in wanted:
        made["fp16"] = to_half(model, sizes)[0], 0
    placements: dict[str, Placement] = {"int8": "tensorrt", "int8-onnxruntime": "onnxruntime"}
    for name in [name for name in placements if name in wanted]:
        eight = quantize_graph(model, Recipe(), frames, known, placements[name])
        made[name] = eight.graph(), len(eight.layers)
    if "mixed" in wanted:
        eight = quantize_graph(model, Recipe(half_scales=True), frames, known)
        rows = sensitivities(eight, OutputError(eight, frames[:2]))
        keep = [row.layer for row in rows[: len(rows) // 10]]
        made["mixed"] = mixed_graph(eight, keep, sizes), len(eight.layers) - len(keep)
    return made


def measure(case: Case, wanted: Sequence[str], runs: int, count: int | None) -> list[dict[str, Any]]:
    """Rows of one detector."""
    model, facts = exported(case)
    calibration = list(GraphFrames(case.config, facts, "train", Recipe().frames))
    made = graphs(model, calibration, wanted, trained_thresholds(case.checkpoint))
    test = GraphFrames(case.config, facts, "test", count)
    calls: dict[str, Callable[[Any], Any]] = {n: partial(run, session(graph)) for n, (graph, _) in made.items()}
    scores = {}
    for name, call in calls.items():
        scores[name] = main_score(score_graph(case.config, call, test))
        print(case.name, name, scores[name], flush=True)
    first = next(iter(test))
    times = alternate({name: partial(call, first) for name, call in calls.items()}, runs, time.process_time)
    zeros, total = _zeros(model)
    return [
        {
            **{"case": case.name, "precision": name, "metric": case.metric, "frames": len(test)},
            **{"score": round(scores[name], 4), "points to fp32": round(100 * (scores[name] - scores["fp32"]), 2)},
            **{"layers in int8": layers, "MB": round(graph.ByteSize() / 1e6, 3)},
            **{"ms": round(times[name], 2), "fp32 ms": round(times["fp32"], 2)},
            **{"weights of 0, %": round(100 * zeros / total, 1), "weights": total},
        }
        for name, (graph, layers) in made.items()
    ]


def _zeros(model: Any) -> tuple[int, int]:
    """Weights that are exactly 0, and all weights, of learned layers."""
    network = Network(model)
    arrays = [network.constant(node.input[1]) for node in network.nodes.values() if network.is_learned(node)]
    return sum(int((array == 0).sum()) for array in arrays), sum(array.size for array in arrays)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in COLUMNS) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def more(case: Case, given: Sequence[str], runs: int, count: int | None) -> list[dict[str, Any]]:
    """Rows of other checkpoints of the case's configuration, ``NAME[:LABEL]=DIR``."""
    rows = []
    for text in given:
        label, _, folder = text.partition("=")
        if label.split(":")[0] == case.name:
            found = measure(replace(case, checkpoint=folder), ("fp32", "int8", "int8-onnxruntime"), runs, count)
            rows += [{**row, "case": label} for row in found]
    return rows


def main() -> None:
    """Measure what is missing and write the table after each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bccd", default="data/bccd/BCCD")
    parser.add_argument("--bccd-work", type=Path, help="folder with the trained detectors' work folders")
    parser.add_argument("--synthetic", default="data/synthetic")
    parser.add_argument("--synthetic-work", type=Path, help="work folder of the demo")
    parser.add_argument("--only", nargs="+", choices=(*BCCD, "bevdet_tiny"))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--checkpoint", nargs="+", default=[], metavar="CASE[:LABEL]=DIR", help="more checkpoints")
    parser.add_argument("--frames", type=int, help="fewer test frames")
    parser.add_argument("--runs", type=int, default=21, help="of each graph, for the milliseconds")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "precision.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["cases"] if path.exists() else []
    result: dict[str, Any] = {}
    for case in cases(args):
        known = not args.again and any(row["case"] == case.name for row in rows)
        found: list[dict[str, Any]] = []
        if not known:
            found = measure(case, args.precisions, args.runs, args.frames)
        found += more(case, args.checkpoint, args.runs, args.frames)
        rows = [row for row in rows if row["case"] not in {new["case"] for new in found}] + found
        versions = {name: require(name, extra="export").__version__ for name in ("torch", "onnx", "onnxruntime")}
        device = f"cpu ({platform.processor() or platform.machine()}), onnxruntime, 1 thread"
        result = {"name": "precision", "device": device, "threads": 1, "versions": versions, "cases": rows}
        path.write_text(json.dumps(result, indent=1) + "\n")
        (args.out / "precision.md").write_text(markdown(rows))
    print(markdown(rows))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
