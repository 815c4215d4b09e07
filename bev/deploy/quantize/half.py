"""Half precision in a strongly typed graph: weights and activations of the network, with casts where it meets float32.

TensorRT from 10 on (and 11 alone) takes the types of the graph as they are written, so nothing is left to a builder's
flag: every tensor here is float16 or float32 because this file says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bev._optional import require
from bev.deploy.parity import FLOAT16_MAX
from bev.deploy.quantize.network import FLOAT, HALF, LAYOUT, Network, without_stack_traces

# Inputs that ONNX wants in float32 whatever the others are.
_ALWAYS_FLOAT = {"Resize": (1, 2)}
# Frames that were not seen may be this much larger than those that were.
HEADROOM = 2.0
Magnitudes = Mapping[str, float]


def to_half(
    model: Any,
    magnitudes: Magnitudes | None = None,
    keep: Mapping[str, str] | None = None,
    rules: Mapping[str, str] | None = None,
) -> tuple[Any, dict[str, str]]:
    """A copy of an exported graph whose network computes in float16.

    Args:
        model: ``ModelProto`` in float32, perhaps with quantised layers (their scales become float16 where what they
            scale does; ONNX allows that from opset 19 on, which the copy then has).
        magnitudes: largest ``|value|`` by tensor, as :func:`bev.deploy.quantize.ranges.magnitudes` measures them. A
            node that reads or gives more than half of what float16 holds keeps float32. None: nothing is known.
        keep: more nodes that keep float32, with the reason.
        rules: nodes that always do; None for those of the model's own :class:`Network`. A graph with quantised layers
            is given those of the graph that it was made of, whose weights are still seen as such.

    Returns:
        The copy, and the nodes that kept float32 for what they hold (``keep`` and overflows), with the reason. Those
        that always do (:class:`Network`) are not told.
    """
    network = Network(model)
    always = network.protected if rules is None else rules
    told = dict(keep or {})
    told |= {name: why for name, why in _overflows(network, magnitudes or {}).items() if name not in always}
    halves = _half_nodes(network, {**always, **told})
    result = require("onnx", extra="export").ModelProto()
    result.CopyFrom(model)
    _Rewriter(network, result, halves).run()
    without_stack_traces(result)
    return result, told


def _overflows(network: Network, magnitudes: Magnitudes) -> dict[str, str]:
    found = {}
    limit = FLOAT16_MAX / HEADROOM
    for name, node in network.nodes.items():
        tensors = [tensor for tensor in (*node.input, *node.output) if not magnitudes.get(tensor, 0.0) <= limit]
        if tensors:
            found[name] = f"{tensors[0]} reaches {magnitudes[tensors[0]]:.3g}"
        elif network.is_learned(node) and not (largest := _largest(network, node)) <= FLOAT16_MAX:
            found[name] = f"its weights reach {largest:.3g}"
    return found


def _largest(network: Network, node: Any) -> float:
    return max(float(np.abs(network.constant(name)).max()) for name in node.input[1:] if name in network.initializers)


def _half_nodes(network: Network, kept: Mapping[str, str]) -> set[str]:
    halves: set[str] = set()
    tensors: set[str] = set()
    for name, node in network.nodes.items():
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            if _scales_half(network, node, tensors, halves, kept):
                halves.add(name)
                tensors |= set(node.output)
            continue
        reads = network.activations(node)
        if name in kept or not reads or not any(network.is_float(out) for out in node.output if out):
            continue
        if node.op_type == "Cast" or (node.op_type in LAYOUT and not any(tensor in tensors for tensor in reads)):
            continue
        halves.add(name)
        tensors |= set(node.output)
    return halves


def _scales_half(
    network: Network, node: Any, tensors: set[str], halves: set[str], kept: Mapping[str, str]
) -> bool:
    """Whether a quantisation reads half precision, or a dequantisation gives it to all its readers."""
    if node.op_type == "QuantizeLinear":
        return node.input[0] in tensors
    if node.input[0] in network.producer:
        return network.producer[node.input[0]] in halves
    return all(name not in kept for name in network.consumers.get(node.output[0], []))


class _Rewriter:
    """Gives every tensor its type, in a copy of the network's graph."""

    def __init__(self, network: Network, model: Any, halves: set[str]) -> None:
        self.onnx = require("onnx", extra="export")
        self.network, self.model, self.halves = network, model, halves
        self.now: dict[str, int] = {}  # type of every tensor that is given under its old name
        self.cast: dict[tuple[str, int], str] = {}
        self.nodes: list[Any] = []
        self.readers: dict[str, set[int]] = {name: set() for name in network.initializers}

    def run(self) -> None:
        """Rewrite the nodes of ``model`` in place."""
        graph = self.model.graph
        for node in list(graph.node):
            self._rewire(node)
        del graph.node[:]
        graph.node.extend(self.nodes)
        self._constants()
        for value in graph.value_info:
            if self.now.get(value.name) == HALF:
                value.type.tensor_type.elem_type = HALF
        if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.node):
            self.model.opset_import[0].version = max(19, self.model.opset_import[0].version)

    def _rewire(self, node: Any) -> None:
        wanted = HALF if node.name in self.halves else FLOAT
        fixed = _ALWAYS_FLOAT.get(node.op_type, ())
        for index, tensor in enumerate(node.input):
            if tensor and self.network.is_float(tensor):
                node.input[index] = self._as(tensor, FLOAT if index in fixed else wanted)
        self.nodes.append(node)
        for index, tensor in enumerate(node.output):
            if not tensor or not self.network.is_float(tensor) or wanted == FLOAT:
                continue
            self.now[tensor] = HALF
            if tensor in self.network.outputs:
                self._give_float(node, index, tensor)

    def _give_float(self, node: Any, index: int, tensor: str) -> None:
        """What the graph gives stays float32."""
        inner = f"{tensor}_half"
        node.output[index] = inner
        self.cast[tensor, HALF] = inner
        self.now[tensor] = FLOAT
        self._add_cast(inner, tensor, FLOAT)

    def _as(self, tensor: str, wanted: int) -> str:
        """Name under which a tensor has a type."""
        if tensor in self.network.initializers:
            self.readers[tensor].add(wanted)
            return f"{tensor}_half" if wanted == HALF else tensor
        if self.now.get(tensor, FLOAT) == wanted:
            return tensor
        if (tensor, wanted) not in self.cast:
            name = f"{tensor}_{'half' if wanted == HALF else 'float'}"
            self._add_cast(tensor, name, wanted)
            self.cast[tensor, wanted] = name
        return self.cast[tensor, wanted]

    def _add_cast(self, source: str, target: str, kind: int) -> None:
        self.nodes.append(self.onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind))

    def _constants(self) -> None:
        graph, kept, helper = self.model.graph, [], self.onnx.numpy_helper
        for item in graph.initializer:
            types = self.readers.get(item.name, set())
            if FLOAT in types or HALF not in types:
                kept.append(item)
            if HALF in types:
                kept.append(helper.from_array(helper.to_array(item).astype(np.float16), f"{item.name}_half"))
        del graph.initializer[:]
        graph.initializer.extend(kept)
