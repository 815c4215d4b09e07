"""The parity report of one written graph: the detector itself against the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from bev._optional import require
from bev.deploy.build import Exportable, as_batch
from bev.deploy.export import example_arrays, write_onnx
from bev.deploy.facts import NEXT, ExportError, GraphFacts
from bev.deploy.finish import boxes2d_of, boxes3d_of
from bev.deploy.graph import DetectorGraph, Outputs
from bev.deploy.parity import (
    LIMIT,
    BoxAgreement,
    Difference,
    compare,
    compare_boxes,
    compare_layers,
    difference,
    first_divergent,
    overflows,
)
from bev.deploy.precise import float64_outputs
from bev.deploy.runtime import Runner, open_runner
from bev.models.detectors import TemporalDetector
from bev.structures import Boxes2D, ImageBatch

# Outputs of a graph that finds boxes or cells: their scores, and what stands in the scores' order.
_SCORES, _RANKED = {"score", "probability"}, {"boxes", "label", "valid", "seen", "evidence"}


@dataclass(frozen=True)
class Report:
    """What a written graph is worth.

    Attributes:
        outputs: of the graph in torch against the file's, candidates paired by rank where scores tell them apart.
        boxes: of every frame, the detector's ``predict`` against the graph with its finish.
        layers: in order of execution; empty where not asked for.
        exact: of every output, distance of torch and of the file from float64; empty where not asked for.
        limit: largest relative difference that passes.
    """

    outputs: list[Difference]
    boxes: list[BoxAgreement]
    layers: list[Difference] = field(default_factory=list)
    exact: list[tuple[Difference, Difference]] = field(default_factory=list)
    limit: float = LIMIT

    @property
    def passed(self) -> bool:
        """Every raw output within the limit and every box found again."""
        return all(d.relative <= self.limit for d in self.outputs) and not any(b.unmatched for b in self.boxes)

    def text(self) -> str:
        """For people."""
        lines = ["outputs: largest difference relative to the largest magnitude"]
        lines += [f"  {'ok ' if d.relative <= self.limit else 'BAD'} {d.line()}" for d in self.outputs]
        for i, b in enumerate(self.boxes):
            lines.append(f"boxes of frame {i}: {b.count}, {b.unmatched} without a partner; {b.place:.1e} m or px apart")
        first = first_divergent(self.layers, self.limit)
        if self.layers:
            found = "none" if first is None else first.line()
            lines.append(f"layers compared: {len(self.layers)}; first divergent: {found}")
            for layer in overflows(self.layers)[:3]:
                lines.append(f"  does not fit into float16: {layer.line()}")
        if self.exact:
            torch_off, file_off = (max(pair[side].relative for pair in self.exact) for side in (0, 1))
            lines.append(f"from float64: torch {torch_off:.1e}, the file {file_off:.1e} (largest of any output)")
        lines.append("passed" if self.passed else "FAILED")
        return "\n".join(lines)


def check_file(
    example: Exportable,
    path: str | Path,
    exact: bool = False,
    layers: bool = False,
    runner: Runner | None = None,
) -> Report:
    """Compare a written file with the detector on the example's frames, as :func:`check_graph`.

    Args:
        example: detector and frames, as many as the file takes.
        path: of any format, written for this detector: ``*.onnx``, ``*.pt2``, ``*.aoti.pt2``, ``*.engine``.
        exact: also measure how far both are from float64.
        layers: of ``*.onnx``, also compare layer by layer; the detector is exported once more for that.
        runner: of the file; None: it is opened.

    Raises:
        ExportError: no such file, one that cannot run here, or one of another detector.
    """
    ready = open_runner(path, threads=1) if runner is None else runner
    graph, exported = _graph_like(example, ready.facts, path), None
    if layers:
        if not str(path).endswith(".onnx"):
            raise ExportError(f"{path}: layers are compared in ONNX graphs alone")
        exported = _written_again(graph, path)
    return check_graph(example, graph, path, exported, exact, ready)


def _written_again(graph: DetectorGraph, path: str | Path) -> Any:
    """The program of a file's graph, whose batch may vary where the file's does."""
    batch = require("onnx", extra="export").load(str(path)).graph.input[0].type.tensor_type.shape.dim[0]
    with TemporaryDirectory() as folder:
        return write_onnx(graph, Path(folder) / "again.onnx", dynamic_batch=not batch.HasField("dim_value"))


def _graph_like(example: Exportable, facts: GraphFacts, path: str | Path) -> DetectorGraph:
    """The detector as the graph that a file should hold."""
    names = {name for name in facts.outputs if not name.startswith(NEXT)}
    outputs: Outputs = "raw" if names.isdisjoint(_SCORES) else "boxes" if names <= _SCORES | _RANKED else "both"
    graph = example.graph(facts.baked, outputs)
    if _signature(graph.facts) == _signature(facts):
        return graph
    raise ExportError(
        f"{path} is not a graph of this {type(example.model).__name__}: its inputs are {', '.join(facts.inputs)}, its "
        f"outputs {', '.join(facts.outputs)}, to be finished as {facts.finish['kind']}"
    )


def _signature(facts: GraphFacts) -> tuple[Any, ...]:
    return facts.inputs, facts.outputs, facts.finish["kind"]


def check_graph(
    example: Exportable,
    graph: DetectorGraph,
    path: str | Path,
    exported: Any = None,
    exact: bool = False,
    runner: Runner | None = None,
) -> Report:
    """Compare a written graph with the detector on the example's frames.

    Args:
        example: detector and frames.
        graph: that was written.
        path: the file.
        exported: of ``write_onnx``, to compare an ONNX graph layer by layer; None for outputs and boxes alone.
        exact: also measure how far both are from float64.
        runner: of the file; None: it is opened.
    """
    inputs = example_arrays(graph)
    ready = open_runner(path, threads=1) if runner is None else runner
    given = {name: np.asarray(value) for name, value in ready(inputs).items()}
    with torch.no_grad():
        boxes = predict(example)
    layers = []
    if exported is not None:
        layers = compare_layers(exported, inputs, require("onnx", extra="export").load(str(path)))
    report = compare_results(graph, boxes, given, layers)
    return replace(report, exact=against_float64(graph, given)) if exact else report


def against_float64(graph: DetectorGraph, given: Mapping[str, Any]) -> list[tuple[Difference, Difference]]:
    """Distance of torch's float32 and of a file's from float64, for every output that entries can be compared of."""
    wanted, ours = _by_rank(float64_outputs(graph), graph.expected)
    theirs = {name: given[name] for name in wanted}
    return list(zip(compare(wanted, ours), compare(wanted, theirs)))


def compare_results(
    graph: DetectorGraph, wanted: Sequence[Any], given: Mapping[str, Any], layers: Sequence[Difference] = ()
) -> Report:
    """What a file gave for a graph's example against torch.

    Args:
        graph: that was written.
        wanted: the detector's own boxes of every frame (:func:`predict`).
        given: outputs of the file by name.
        layers: of ``compare_layers``.
    """
    outputs = compare(*_by_rank(graph.expected, given))
    if "score" not in given and "probability" not in given:  # raw outputs alone
        return Report(outputs, [], list(layers))
    kind = graph.facts.finish["kind"]
    if kind == "cells":
        outputs.append(difference("predict", torch.stack(list(wanted)), given["probability"]))
        return Report(outputs, [], list(layers))
    if kind == "dense":
        images = graph.example["images"]
        sizes = [(float(images.shape[-2]), float(images.shape[-1]))] * len(images)
        kept = boxes2d_of(given, graph.facts.finish, sizes)
        found: Sequence[Any] = [_within(boxes_px, size) for boxes_px, size in zip(kept, sizes)]
    else:
        found = boxes3d_of(given, graph.facts.finish)
    return Report(outputs, [compare_boxes(a, b) for a, b in zip(wanted, found)], list(layers))


def _within(boxes: Boxes2D, size_px: tuple[float, float]) -> Boxes2D:
    """Boxes end at the picture's border, as those of ``predict`` do."""
    limit = boxes.xyxy_px.new_tensor([size_px[1], size_px[0]] * 2)
    return Boxes2D(torch.min(boxes.xyxy_px.clamp(min=0), limit), boxes.label, boxes.score)


def predict(example: Exportable) -> Sequence[Any]:
    """The detector's own boxes of the example's frames; pictures fill their network images."""
    images = example.images
    if example.rig is None:
        matrix = torch.eye(3, dtype=torch.float64).expand(len(images), 3, 3)
        sizes = [(int(images.shape[-2]), int(images.shape[-1]))] * len(images)
        return example.model.predict(ImageBatch(images, matrix, sizes, [""] * len(images)))  # type: ignore[operator]
    if example.state is not None:
        assert isinstance(example.model, TemporalDetector)
        return example.model.decode(example.model(images, example.rig, example.state))
    return example.model.predict(as_batch(images, example.rig))  # type: ignore[operator]


def _by_rank(wanted: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Outputs that can be compared entry by entry: candidates whose rank rounding cannot change, and all else.

    Candidates of equal or nearly equal score may come in any order; their boxes are compared as boxes.
    """
    keep = [name for name in wanted if name not in _RANKED]
    return {name: wanted[name] for name in keep}, {name: given[name] for name in keep}
