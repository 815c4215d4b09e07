"""Graphs to files: ONNX, torch's exported program, and an AOTInductor package."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bev._optional import require
from bev.deploy.facts import METADATA, ExportError, describe, folder_of, write_bytes
from bev.deploy.graph import DetectorGraph
from bev.deploy.onnx_surgery import fold_constants, merge_parallel_convs, pools_as_convs
from bev.deploy.surgery import Surgery
from bev.ops.exporting import PLUGIN_DOMAIN

OPSET = 18
# TensorRT miscompiles the first inside attention and has no form of the others; see docs/deployment.md.
FORBIDDEN = ("GridSample", "NonMaxSuppression", "DeformConv", "Loop", "If", "Scan", "NonZero")
_SCATTER = ("ScatterND", "ScatterElements")


def capture(graph: DetectorGraph, dynamic_batch: bool = False) -> torch.export.ExportedProgram:
    """The graph as an exported program.

    Args:
        graph: to be exported; its example inputs fix all sizes but those that are dynamic.
        dynamic_batch: let the batch vary. The example's batch must then be at least 2.

    Pooling tables that are inputs have as many rows as the calibration gives them, so these always vary.
    """
    images = graph.example["images"]
    if dynamic_batch and len(images) < 2:
        raise ExportError(f"a dynamic batch needs an example of at least 2 frames, got {len(images)}")
    if dynamic_batch and any(name.endswith("pool_offsets") for name in graph.facts.inputs):
        raise ExportError("lift-splat with plugins needs a fixed batch: its cells are numbered over all frames")
    batch = torch.export.Dim("batch", min=1, max=1024) if dynamic_batch else None
    shapes = [_dynamic(name, batch) for name in graph.facts.inputs]
    with torch.no_grad():
        return torch.export.export(
            graph,
            tuple(graph.example.values()),
            dynamic_shapes={"images": shapes[0], **({"rest": tuple(shapes[1:])} if shapes[1:] else {})},
            strict=False,
        )


def _dynamic(name: str, batch: Any) -> dict[int, Any]:
    if "pool_" not in name or name.endswith(("pool_cells", "pool_offsets")):
        return {} if batch is None else {0: batch}
    rows = {0: torch.export.Dim(f"{name}_rows", min=2)}
    return {**rows, 1: torch.export.Dim(f"{name}_width", min=2)} if name.endswith("pool_rest") else rows


def to_onnx(graph: DetectorGraph, dynamic_batch: bool = False) -> Any:
    """The graph as torch's ``ONNXProgram``: ``model_proto``, and ``exported_program`` with the same names of values.

    Raises:
        ImportError: onnx or onnxscript is not installed.
    """
    require("onnx", extra="export")
    require("onnxscript", extra="export")
    program = capture(graph, dynamic_batch)
    inputs, outputs = list(graph.facts.inputs), list(graph.facts.outputs)
    with torch.no_grad(), _quietly():
        exported = torch.onnx.export(
            program, (), dynamo=True, opset_version=OPSET, verbose=False, input_names=inputs, output_names=outputs
        )
    assert exported is not None
    # The optimiser's fusion of clamps leaves new nodes before what they read.
    exported.model.graph.sort()
    return exported


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch's exporter says of itself: that torchvision is not there, and that torch uses an old form."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            yield
    finally:
        registration.setLevel(before)


def write_onnx(
    graph: DetectorGraph, path: str | Path, dynamic_batch: bool = False, metadata: Mapping[str, Any] | None = None
) -> Any:
    """Write a graph of standard ONNX operators and, where it was made so, of plugins.

    Args:
        graph: see :class:`DetectorGraph`.
        path: ``*.onnx``.
        dynamic_batch: see :func:`capture`.
        metadata: kept in the file beside what a runner needs to know.

    Returns:
        What :func:`to_onnx` gave, for ``parity.compare_layers``.

    Raises:
        ExportError: the graph breaks a rule (:func:`check_operators`).
        ImportError: onnx or onnxscript is not installed.
    """
    exported = to_onnx(graph, dynamic_batch)
    save_onnx(exported.model_proto, graph, path, graph.surgery, metadata)
    return exported


def save_onnx(
    model: Any, graph: DetectorGraph, path: str | Path, surgery: Surgery, metadata: Mapping[str, Any] | None = None
) -> None:
    """Change an ONNX model (in place), prove it against the rules and write it with its description.

    Args:
        model: ``ModelProto`` of :func:`to_onnx`.
        graph: that it was made of.
        path, metadata: as of :func:`write_onnx`.
        surgery: what is still to be done to the model.

    Raises:
        ExportError: the graph breaks a rule (:func:`check_operators`).
    """
    onnx = require("onnx", extra="export")
    operate(model, surgery)
    problems = check_operators(model, graph.plugins)
    if problems:
        raise ExportError(f"{path}: the graph has {', '.join(problems)}")
    note = onnx.StringStringEntryProto(key=METADATA, value=json.dumps(describe(graph.facts, metadata)))
    model.metadata_props.append(note)
    onnx.checker.check_model(model)
    write_bytes(path, model.SerializeToString())


def operate(model: Any, surgery: Surgery) -> dict[str, int]:
    """The part of the surgery that is done to an ONNX model (in place); how much of each there was."""
    counts = {}
    if surgery.fold_constants:
        counts["fold_constants"] = fold_constants(model)
    if surgery.merge_convs:
        counts["merge_convs"] = merge_parallel_convs(model)
    if surgery.pools_as_convs:
        counts["pools_as_convs"] = pools_as_convs(model)
    return counts


def write_program(
    graph: DetectorGraph, path: str | Path, dynamic_batch: bool = False, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write torch's exported program (``torch.export.load`` reads it)."""
    notes = {METADATA: json.dumps(describe(graph.facts, metadata))}
    with tempfile.TemporaryDirectory(dir=folder_of(Path(path))) as folder:
        temporary = Path(folder) / "graph.pt2"
        torch.export.save(capture(graph, dynamic_batch), temporary, extra_files=notes)
        os.replace(temporary, path)
    return Path(path)


def write_aoti(
    graph: DetectorGraph, path: str | Path, dynamic_batch: bool = False, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Compile with AOTInductor for the device that the graph is on; needs a C++ compiler.

    ``torch._inductor.aoti_load_package`` reads the package. The description lies beside it as ``<path>.json``.
    """
    program = capture(graph, dynamic_batch)
    with tempfile.TemporaryDirectory(dir=folder_of(Path(path))) as folder:
        temporary = torch._inductor.aoti_compile_and_package(program, package_path=str(Path(folder) / "graph.pt2"))
        os.replace(temporary, path)
    write_bytes(f"{path}.json", json.dumps(describe(graph.facts, metadata)).encode())
    return Path(path)


def check_operators(model: Any, plugins: bool = False) -> list[str]:
    """What an ONNX model has that exported graphs must not have; empty where all is well.

    Args:
        model: ``ModelProto``.
        plugins: whether nodes of the domain ``bev`` may be in it.
    """
    problems = []
    for node in _nodes(model.graph):
        reduction = [a.s.decode() for a in node.attribute if a.name == "reduction" and node.op_type in _SCATTER]
        if node.op_type in FORBIDDEN:
            problems.append(f"{node.op_type} ({node.name})")
        elif any(kind not in ("", "none") for kind in reduction):
            problems.append(f"{node.op_type} with reduction {reduction[0]} ({node.name})")
        elif node.domain not in ("", "ai.onnx", *((PLUGIN_DOMAIN,) if plugins else ())):
            problems.append(f"{node.domain}::{node.op_type} ({node.name})")
    if any(value == 11 for value in _types(model)):
        problems.append("float64 tensors")
    return problems


def _nodes(graph: Any) -> list[Any]:
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            found += _nodes(attribute.g) if attribute.HasField("g") else []
    return found


def _types(model: Any) -> set[int]:
    kinds = {item.data_type for item in model.graph.initializer}
    return kinds | {v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.input)}


def example_arrays(graph: DetectorGraph) -> dict[str, Any]:
    """The graph's example inputs as numpy arrays."""
    return {name: _array(value) for name, value in graph.example.items()}


def _array(value: Tensor) -> Any:
    return value.detach().cpu().contiguous().numpy()
