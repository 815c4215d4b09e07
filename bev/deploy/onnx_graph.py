"""An ONNX model as something to change: who reads a value, what is constant, nodes replaced; and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from bev._optional import require


class Graph:
    """A model's main graph; changes are made by :meth:`finish`.

    Args:
        model: ``ModelProto``; nodes in order of execution.

    Attributes:
        nodes: of the graph.
        constants: initialisers by name.
        outputs: names.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.nodes = model, list(model.graph.node)
        self.constants = {item.name: item for item in model.graph.initializer}
        self.outputs = {value.name for value in model.graph.output}
        known = [*model.graph.value_info, *model.graph.input, *model.graph.output]
        self._shapes = {value.name: _sides(value) for value in known}
        self._shapes |= {name: tuple(item.dims) for name, item in self.constants.items()}
        self._readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self._readers.setdefault(name, []).append(node)
        self._added: list[tuple[Any, list[Any]]] = []
        self._gone: set[int] = set()

    def readers(self, name: str) -> list[Any]:
        """Nodes that read a value, in order."""
        return list(self._readers.get(name, []))

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """Sides of a value, those that vary by name; None where the model does not say."""
        return self._shapes.get(name)

    def array(self, name: str) -> np.ndarray:
        """Values of an initialiser."""
        found: np.ndarray = require("onnx", extra="export").numpy_helper.to_array(self.constants[name])
        return found

    def constant(self, name: str, value: Callable[[], np.ndarray]) -> str:
        """Add an initialiser unless it is there; its name."""
        if name not in self.constants:
            helper = require("onnx", extra="export").numpy_helper
            item = helper.from_array(np.ascontiguousarray(value()), name)
            self.model.graph.initializer.append(item)
            self.constants[name] = item
        return name

    def replace(self, nodes: Sequence[Any], others: Sequence[Any], at: Any) -> None:
        """Put other nodes in the place of one of them."""
        self._gone.update(id(node) for node in nodes)
        self._added.append((at, list(others)))

    def finish(self) -> None:
        """Write the changes into the model; initialisers that nothing reads go."""
        if not self._added:
            return
        added = {id(at): others for at, others in self._added}
        kept = []
        for node in self.nodes:
            kept += added.get(id(node), [])
            kept += [] if id(node) in self._gone else [node]
        graph = self.model.graph
        read = {name for node in kept for name in node.input} | self.outputs
        read |= {n for node in kept for a in node.attribute if a.HasField("g") for b in a.g.node for n in b.input}
        produced = {name for node in kept for name in node.output}
        constants = [item for item in graph.initializer if item.name in read]
        shapes = [value for value in graph.value_info if value.name in produced]
        for field, values in ((graph.node, kept), (graph.initializer, constants), (graph.value_info, shapes)):
            copies = list(values)
            del field[:]
            field.extend(copies)


def attributes(node: Any) -> dict[str, Any]:
    """Attributes of a node as plain values."""
    helper = require("onnx", extra="export").helper
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _sides(value: Any) -> tuple[int | str, ...] | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in value.type.tensor_type.shape.dim)


def flops(model: Any) -> int:
    """Multiplications and additions of all convolutions and matrix products, for one batch of a model of fixed sizes.

    Raises:
        ValueError: a product's size varies or is not told.
    """
    onnx = require("onnx", extra="export")
    graph = Graph(onnx.shape_inference.infer_shapes(model))
    return sum(_cost(graph, node) for node in graph.nodes)


def _cost(graph: Graph, node: Any) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return 0
    names = node.output[0], node.input[0], node.input[1]
    shapes = [graph.shape(name) for name in names]
    if any(shape is None or not all(isinstance(side, int) for side in shape) for shape in shapes):
        raise ValueError(f"{node.op_type} {node.name}: sizes {dict(zip(names, shapes))} are not all known")
    result, first, second = ([int(side) for side in shape or ()] for shape in shapes)
    if node.op_type == "Conv":
        return 2 * prod(result) * prod(second[1:])
    if node.op_type == "ConvTranspose":
        return 2 * prod(first) * prod(second[1:])
    inner = first[0] if node.op_type == "Gemm" and attributes(node).get("transA", 0) else first[-1]
    return 2 * prod(result) * inner
