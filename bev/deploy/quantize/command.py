"""``tools/export.py --precision``: a written float32 graph as one of fewer bits, and what that cost."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from torch import nn

from bev._optional import require
from bev.deploy.export import check_operators
from bev.deploy.facts import METADATA, ExportError, described, write_bytes
from bev.deploy.quantize.equalize import equalize
from bev.deploy.quantize.frames import GraphFrames
from bev.deploy.quantize.half import to_half
from bev.deploy.quantize.mixed import Choice, within_drop, within_size
from bev.deploy.quantize.network import Network
from bev.deploy.quantize.qdq import Quantized, Recipe
from bev.deploy.quantize.ranges import Frames, Method, magnitudes, run, session
from bev.deploy.quantize.score import main_score, score_graph
from bev.deploy.quantize.sensitivity import OutputError, Sensitivity, sensitivities, write_sensitivities
from bev.deploy.quantize.whole import PLACEMENTS, quantize_graph
from bev.engine.api import checkpoint_file
from bev.engine.config import load_config
from bev.io.checkpoint import load_checkpoint

PRECISIONS = ("fp32", "fp16", "int8", "mixed")
_ERROR_FRAMES = 4


@dataclass
class Reduced:
    """A graph of fewer bits.

    Attributes:
        model: ``ModelProto``, with the description that the float32 file has.
        notes: lines for people: what was quantised, what kept float32 and why, the error.
        facts: the same as plain values, kept in the file.
        rows: sensitivity of each layer, where it was measured.
    """

    model: Any
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[Sensitivity] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``--precision``."""
    recipe = Recipe()
    group = parser.add_argument_group("precision (formats onnx and tensorrt*; docs/quantisation.md)")
    group.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the network (default: fp32)")
    group.add_argument("--placement", choices=PLACEMENTS, default="tensorrt", help="of int8: what runs the graph")
    group.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change the configuration")
    group.add_argument("--calibration", choices=get_args(Method), default=recipe.method, help="how scales are chosen")
    group.add_argument("--percentile", type=float, default=recipe.percentile, help="of --calibration percentile")
    group.add_argument("--frames", type=int, default=recipe.frames, help="of the training set, to calibrate with")
    group.add_argument("--keep", nargs="+", default=[], metavar="PATTERN", help="layers that are not quantised")
    group.add_argument("--keep-first", action="store_true", help="do not quantise the first layers")
    group.add_argument("--keep-last", action="store_true", help="do not quantise those that give scores and boxes")
    group.add_argument("--equalize", action="store_true", help="equalise the channels of neighbouring layers first")
    group.add_argument("--sensitivity", metavar="JSON", help="write what each layer's int8 costs, also as Markdown")
    group.add_argument("--budget-mb", type=float, help="mixed: size of all weights and constants")
    group.add_argument("--budget-drop", type=float, help="mixed: drop of AP or NDS, 0..1 (default: 0.002)")
    group.add_argument("--budget-frames", type=int, default=64, help="--budget-drop's")


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ExportError where options contradict each other."""
    if args.precision == "fp32":
        return
    if args.format not in ("onnx", "tensorrt", "tensorrt-rtx"):
        raise ExportError(f"--precision {args.precision} is for onnx and tensorrt graphs, not --format {args.format}")
    if args.placement == "onnxruntime" and (args.precision != "int8" or args.format != "onnx"):
        raise ExportError("--placement onnxruntime is for --precision int8 --format onnx: its kernels on a CPU")
    if args.plugins:
        raise ExportError("--precision reads what the graph computes, which nodes of plugins hide: leave out --plugins")
    if args.budget_mb is not None and args.budget_drop is not None:
        raise ExportError("--budget-mb and --budget-drop: choose one")


def reduce_file(args: argparse.Namespace, path: Path, model: nn.Module | None, example: Mapping[str, Any]) -> Path:
    """Write ``<name>_<precision>.onnx`` beside a float32 graph and say what it is.

    With ``--placement onnxruntime`` it is ``<name>_int8_onnxruntime.onnx``, so that both placements stand side by side.

    Args:
        args: with the options of :func:`add_arguments`, ``config`` and ``checkpoint``.
        path: the float32 graph.
        model: the detector, for graphs with a state.
        example: inputs that a float16 graph is measured on where the configuration has no data.

    Raises:
        ExportError: no frames to calibrate with; a budget that cannot be kept; a graph that breaks a rule.
    """
    onnx = require("onnx", extra="export")
    config, source = load_config(args.config, args.cfg_options), onnx.load(str(path))
    if source.graph.input[0].type.tensor_type.shape.dim[0].dim_value > 1:
        raise ExportError(f"{path}: a fixed batch is calibrated with one frame: --batch 1, or --dynamic-batch")
    try:
        reduced = reduce(args, config, source, model, example)
    except ValueError as error:
        raise ExportError(f"{path}: {error}") from error
    _describe(reduced, source, path)
    problems = check_operators(reduced.model)
    if problems:
        raise ExportError(f"{path}: the {args.precision} graph has {', '.join(problems)}")
    onnx.checker.check_model(reduced.model)
    kind = args.precision + ("_onnxruntime" if args.placement == "onnxruntime" else "")
    target = path.with_name(f"{path.stem}_{kind}.onnx")
    write_bytes(target, reduced.model.SerializeToString())
    if args.sensitivity and reduced.rows:
        Path(args.sensitivity).parent.mkdir(parents=True, exist_ok=True)
        write_sensitivities(reduced.rows, args.sensitivity)
    sizes = [file.stat().st_size / 1e6 for file in (path, target)]
    print("\n".join([*reduced.notes, f"size: {sizes[0]:.2f} MB -> {sizes[1]:.2f} MB"]))
    return target


def reduce(
    args: argparse.Namespace, config: Any, source: Any, model: nn.Module | None, example: Mapping[str, Any]
) -> Reduced:
    """The graph itself; arguments as of :func:`reduce_file`."""
    note = next((entry.value for entry in source.metadata_props if entry.key == METADATA), None)
    if note is None:
        raise ExportError("not a graph of this library: it has no description")
    facts = described(note, args.config)[0]
    if args.precision == "fp16":
        return _half(args, source, _frames_or(config, facts, args.frames, model, example))
    frames = GraphFrames(config, facts, "train", args.frames, model)
    notes: list[str] = []
    if args.equalize:
        source, count = equalize(source)
        notes.append(f"equalised {count} pairs of layers")
    recipe = Recipe(
        *(args.calibration, args.percentile, args.frames, not args.keep_first, not args.keep_last, tuple(args.keep)),
        half_scales=args.precision == "mixed",
    )
    eight = quantize_graph(source, recipe, frames, trained_thresholds(args.checkpoint), args.placement)
    error = OutputError(eight, GraphFrames(config, facts, "train", min(args.frames, _ERROR_FRAMES), model))
    rows = sensitivities(eight, error) if args.sensitivity or args.precision == "mixed" else []
    if args.precision == "int8":
        choice = Choice((), eight.graph())
    else:
        choice = _mixed(args, config, facts, eight, rows, frames, model)
    notes += _told(eight, choice, error(choice.model))
    kept = {"layers_int8": len(eight.layers) - len(choice.keep), "float16": list(choice.keep)}
    settings = {"method": args.calibration, "frames": len(frames), "excluded": eight.excluded, **kept}
    settings["placement"] = args.placement
    return Reduced(choice.model, notes, {"kind": args.precision, **settings}, rows)


def trained_thresholds(checkpoint: str) -> dict[str, float] | None:
    """Thresholds that a checkpoint's weights were trained with (``QuantizationHook``); None where they were not."""
    if Path(checkpoint).suffix == ".onnx":
        return None
    state = load_checkpoint(checkpoint_file(checkpoint)).get("quantization")
    return None if state is None else {name: float(value) for name, value in state.items()}


def _half(args: argparse.Namespace, source: Any, frames: Frames) -> Reduced:
    network = Network(source)
    result, told = to_half(source, magnitudes(network, frames))
    notes = [f"kept in float32: {name}: {why}" for name, why in told.items()]
    count = len(network.protected)
    notes.append(f"float16; float32 by rule (geometry, decoding ...): {count} nodes; others: {len(told)}")
    return Reduced(result, notes, {"kind": "fp16", "kept_float32": told})


def _frames_or(config: Any, facts: Any, count: int, model: Any, example: Mapping[str, Any]) -> Frames:
    """Frames of the training set; where there is none, the example, of which the report then says so."""
    try:
        return GraphFrames(config, facts, "train", count, model)
    except ExportError as error:
        print(f"{error}; what overflows float16 is looked for on the example alone")
        return [example]


def _mixed(
    args: argparse.Namespace, config: Any, facts: Any, quantized: Quantized, rows: Any, frames: Frames, model: Any
) -> Choice:
    sizes = magnitudes(quantized.network, frames)
    if args.budget_mb is not None:
        return within_size(quantized, rows, round(args.budget_mb * 1e6), sizes)
    scored = GraphFrames(config, facts, "train", args.budget_frames, model)

    def score(graph: Any) -> float:
        ready = session(graph)
        return main_score(score_graph(config, lambda inputs: run(ready, inputs), scored))

    allowed = 0.002 if args.budget_drop is None else args.budget_drop
    return within_drop(quantized, rows, score, score(quantized.model), allowed, sizes)


def _told(quantized: Quantized, choice: Choice, error: float) -> list[str]:
    told = [f"not quantised: {name}: {why}" for name, why in quantized.excluded.items()]
    told += [f"float16: {name}" for name in choice.keep]
    told.append(f"int8: {len(quantized.layers) - len(choice.keep)} of {len(quantized.layers)} layers and additions")
    if choice.drop is not None:
        told.append(f"drop of the score on training frames: {choice.drop:.4f}")
    told.append(f"relative squared error of the network's outputs: {error:.1e}")
    return told


def _describe(reduced: Reduced, source: Any, path: Path) -> None:
    """Carry the description over, with the precision in it."""
    del reduced.model.metadata_props[:]
    for entry in source.metadata_props:
        copied = reduced.model.metadata_props.add()
        copied.CopyFrom(entry)
        if copied.key == METADATA:
            values = json.loads(copied.value)
            values["more"] = {**values["more"], "precision": reduced.facts}
            copied.value = json.dumps(values)


__all__ = [
    "PRECISIONS",
    "Reduced",
    "add_arguments",
    "check_arguments",
    "reduce",
    "reduce_file",
    "trained_thresholds",
]
