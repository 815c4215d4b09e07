"""Changes of an ONNX model that leave its numbers as they are, up to rounding: for every network, whatever made it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bev._optional import require
from bev.deploy.onnx_graph import Graph, attributes

_CONV_KEYS = ("kernel_shape", "strides", "pads", "dilations", "group", "auto_pad")
_REPEATING = ("Expand", "Tile", "ConstantOfShape")  # their results are larger than what they are made of
_ACTIVATIONS = ("Relu", "LeakyRelu", "HardSwish", "HardSigmoid", "Elu", "Softplus")


def merge_parallel_convs(model: Any) -> int:
    """Convolutions of one tensor with like kernels become one and a split of its channels (in place).

    Heads' first layers, both ways into a cross-stage layer, CenterPoint's branches. An activation that follows all of
    them alike moves before the split, so that a runtime can still fuse it with the convolution.

    Returns:
        How many convolutions there are fewer.
    """
    graph, fewer = Graph(model), 0
    for members in _parallel(graph):
        _merge(graph, members)
        fewer += len(members) - 1
    graph.finish()
    return fewer


def _parallel(graph: Graph) -> list[list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for node in graph.nodes:
        if node.op_type != "Conv" or not all(name in graph.constants for name in node.input[1:]):
            continue
        settings = attributes(node)
        if settings.get("group", 1) != 1 or settings.get("auto_pad", b"NOTSET") != b"NOTSET":
            continue
        kernel = tuple(graph.constants[node.input[1]].dims[1:])
        key = node.input[0], kernel, graph.constants[node.input[1]].data_type
        groups.setdefault((*key, repr([settings.get(name) for name in _CONV_KEYS])), []).append(node)
    return [members for members in groups.values() if len(members) > 1]


def _merge(graph: Graph, members: Sequence[Any]) -> None:
    helper = require("onnx", extra="export").helper
    first = members[0]
    names = ["+".join(node.input[1] for node in members)]
    sizes = [int(graph.constants[node.input[1]].dims[0]) for node in members]
    graph.constant(names[0], lambda: np.concatenate([graph.array(node.input[1]) for node in members]))
    if any(len(node.input) > 2 for node in members):
        names.append("+".join((*(node.input[2] if len(node.input) > 2 else "0" for node in members), "bias")))
        graph.constant(names[1], lambda: np.concatenate([_bias(graph, n, s) for n, s in zip(members, sizes)]))
    joined = f"{first.output[0]}_joined"
    conv = helper.make_node("Conv", [first.input[0], *names], [joined], f"{first.name}_joined")
    conv.attribute.extend(first.attribute)
    added, ends, dropped = _activated(graph, members, joined)
    widths = graph.constant("split_" + "_".join(map(str, sizes)), lambda: np.array(sizes, np.int64))
    result = added[-1].output[0] if added else joined
    split = helper.make_node("Split", [result, widths], ends, f"{first.name}_split", axis=1)
    graph.replace([*members, *dropped], [conv, *added, split], at=first)


def _bias(graph: Graph, node: Any, size: int) -> np.ndarray:
    if len(node.input) > 2:
        return graph.array(node.input[2])
    return np.zeros(size, graph.array(node.input[1]).dtype)


def _activated(graph: Graph, members: Sequence[Any], joined: str) -> tuple[list[Any], list[str], list[Any]]:
    """Nodes of the common activation, where there is one; the names of what the parts are; and nodes that go."""
    helper = require("onnx", extra="export").helper
    found = [_activation(graph, node.output[0]) for node in members]
    kinds = {None if item is None else repr([(n.op_type, attributes(n)) for n in item]) for item in found}
    if len(kinds) != 1 or found[0] is None:
        return [], [node.output[0] for node in members], []
    chains = [item for item in found if item is not None]
    added, before = [], joined
    for step in chains[0]:
        after = f"{step.output[0]}_joined"
        inputs = [joined, before] if step.op_type == "Mul" else [joined]
        node = helper.make_node(step.op_type, inputs, [after], f"{step.name}_joined")
        node.attribute.extend(step.attribute)
        added.append(node)
        before = after
    return added, [chain[-1].output[0] for chain in chains], [node for chain in chains for node in chain]


def _activation(graph: Graph, value: str) -> list[Any] | None:
    """The nodes that are the activation of a value which nothing else reads; None where there is none."""
    readers = graph.readers(value)
    if value in graph.outputs:
        return None
    if len(readers) == 1 and readers[0].op_type in _ACTIVATIONS:
        return readers
    if len(readers) == 2 and {node.op_type for node in readers} == {"Sigmoid", "Mul"}:  # SiLU
        gate, product = sorted(readers, key=lambda node: node.op_type == "Mul")
        inside = gate.output[0]
        if sorted(product.input) == sorted([value, inside]) and len(graph.readers(inside)) == 1:
            return None if inside in graph.outputs else [gate, product]
    return None


def pools_as_convs(model: Any) -> int:
    """Average pooling and means of whole maps of fixed size become depthwise convolutions (in place); how many.

    For targets that have fast or quantised convolutions alone. A mean of a large map is a kernel of its size: more
    bytes and, on a CPU, more time.
    """
    graph, count = Graph(model), 0
    for node in list(graph.nodes):
        kernel = _mean_kernel(graph, node)
        if kernel is None:
            continue
        channels, size, settings = kernel
        name = f"mean_{channels}_{size[0]}_{size[1]}"
        graph.constant(name, lambda: np.full((channels, 1, *size), 1 / (size[0] * size[1]), np.float32))
        helper = require("onnx", extra="export").helper
        conv = helper.make_node(
            "Conv", [node.input[0], name], list(node.output), node.name, group=channels, kernel_shape=size, **settings
        )
        graph.replace([node], [conv], at=node)
        count += 1
    graph.finish()
    return count


def _mean_kernel(graph: Graph, node: Any) -> tuple[int, list[int], dict[str, Any]] | None:
    """Channels, kernel and attributes of the convolution that a node is; None where it is none."""
    shape = graph.shape(node.input[0]) if node.input else None
    if shape is None or len(shape) != 4 or not all(isinstance(side, int) for side in shape[1:]):
        return None
    channels, size, settings = int(shape[1]), [int(shape[2]), int(shape[3])], attributes(node)
    if node.op_type == "GlobalAveragePool":
        return channels, size, {}
    if node.op_type == "ReduceMean" and settings.get("keepdims", 1) == 1 and len(node.input) > 1:
        axes = graph.array(node.input[1]) if node.input[1] in graph.constants else np.array([])
        return (channels, size, {}) if sorted(axis % 4 for axis in axes.tolist()) == [2, 3] else None
    if node.op_type != "AveragePool" or settings.get("ceil_mode", 0):
        return None
    pads = list(settings.get("pads", [0] * 4))
    if any(pads) and not settings.get("count_include_pad", 0):  # the mean's divisor changes along the border
        return None
    if settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return None
    strides = list(settings.get("strides", [1, 1]))
    return channels, list(settings["kernel_shape"]), {"strides": strides, "pads": pads}


def fold_constants(model: Any, limit_bytes: int = 64 << 20) -> int:
    """Compute once what depends on no input (in place): baked cameras' rays, positions, first queries.

    The exporter folds small tensors alone. What would make the file larger by more than the limit stays as it is.

    Returns:
        How many nodes there are fewer.
    """
    graph = Graph(model)
    fixed = _fixed(graph)
    inside = {id(node) for node in fixed}
    made = [name for node in fixed for name in node.output if name]
    wanted = [name for name in made if any(id(reader) not in inside for reader in graph.readers(name))]
    if not wanted:
        return 0
    values = dict(zip(wanted, _computed(model, fixed, wanted)))
    if sum(value.nbytes for value in values.values()) > limit_bytes:
        return 0
    for name, value in values.items():
        graph.constant(name, partial(np.asarray, value))
    graph.replace(fixed, [], at=fixed[0])
    graph.finish()
    return len(fixed)


def _fixed(graph: Graph) -> list[Any]:
    """Nodes that depend on no input, in order, without those that give an output or only repeat values at the end."""
    fixed, known = [], set(graph.constants)
    for node in graph.nodes:
        if node.op_type == "Constant":
            known.update(node.output)
        elif all(not name or name in known for name in node.input) and not graph.outputs & set(node.output):
            # Plugins run in TensorRT alone; bodies of control flow read values that are not listed as inputs.
            if node.domain in ("", "ai.onnx") and not any(attribute.HasField("g") for attribute in node.attribute):
                fixed.append(node)
                known.update(node.output)
    while True:
        inside = {id(node) for node in fixed}
        ends = {
            id(node)
            for node in fixed
            if node.op_type in _REPEATING and any(id(r) not in inside for r in graph.readers(node.output[0]))
        }
        if not ends:
            return fixed
        fixed = [node for node in fixed if id(node) not in ends]


def _computed(model: Any, nodes: Iterable[Any], wanted: Sequence[str]) -> list[np.ndarray]:
    """Values by running those nodes alone."""
    onnx, runtime = require("onnx", extra="export"), require("onnxruntime", extra="export")
    part = onnx.ModelProto()
    part.ir_version, part.graph.name = model.ir_version, "constants"
    part.opset_import.extend(model.opset_import)
    part.graph.node.extend([*(n for n in model.graph.node if n.op_type == "Constant"), *nodes])
    needed = {name for node in part.graph.node for name in node.input}
    part.graph.initializer.extend(item for item in model.graph.initializer if item.name in needed)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(list(wanted), {})
    return found
