"""A graph of a few nodes with all that a runner must know: a batch that varies, a table, state, several types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from bev.deploy.facts import METADATA, CalibrationSpec, GraphFacts, describe

INPUTS = ("images", "pool_points", "state_memory", "state_continues")
OUTPUTS = ("score", "label", "next_memory")


def write_tiny(path: Path, extra: str | None = None, notes: bool = True, more: dict[str, Any] | None = None) -> Path:
    """score = mean of each picture's pixels + remembered, where it continues, + number of table rows.

    Args:
        extra: an operator to be added at the end, under the name ``planted``.
        notes: with the library's description.
        more: kept with it.
    """
    kinds = TensorProto.UINT8, TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL
    shapes = ["b", 4], ["rows", 8], ["b", 1], ["b"]
    values = [helper.make_tensor_value_info(*row) for row in zip(INPUTS, kinds, shapes)]
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axis"], ["mean"], keepdims=1),
        helper.make_node("Cast", ["state_continues"], ["on"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["on", "axis"], ["on_column"]),
        helper.make_node("Mul", ["state_memory", "on_column"], ["kept"]),
        helper.make_node("Shape", ["pool_points"], ["rows"], start=0, end=1),
        helper.make_node("Cast", ["rows"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["mean", "kept"], ["next_memory"]),
        helper.make_node("Add", ["next_memory", "count"], ["score"]),
        helper.make_node("Cast", ["next_memory"], ["label"], to=TensorProto.INT64),
    ]
    if extra is not None:
        nodes.append(helper.make_node(extra, ["score", "score"], ["nothing"], name="planted"))
    outputs = [
        helper.make_tensor_value_info(name, kind, ["b", 1])
        for name, kind in zip(OUTPUTS, (TensorProto.FLOAT, TensorProto.INT64, TensorProto.FLOAT))
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "tiny", values, outputs, [axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if notes:
        text = json.dumps(describe(facts(), more or {"git": "abc", "classes": ["car"]}))
        model.metadata_props.append(onnx.StringStringEntryProto(key=METADATA, value=text))
    onnx.save(model, str(path))
    return path


def facts() -> GraphFacts:
    """Of the graph."""
    state = {"state_memory": [[1], "float32"], "state_continues": [[], "bool"]}
    memory = {"state": state, "motion": {"names": ["continues"]}}
    example = {"images": [2, 4], "pool_points": [10, 8]}
    return GraphFacts(INPUTS, OUTPUTS, {"kind": "query"}, CalibrationSpec(("FRONT",), (4, 6)), False, memory, example)
