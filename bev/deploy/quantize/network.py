"""What of an exported graph is the network, and what must keep float32: geometry, box decoding, sampling, softmax.

The rules look at what a node computes, not at a model's names, so they hold for every detector:

- *post-processing*: outside the detector's own modules (candidates, decoding, the mean with the mirror image);
- *preparation*: the images before the network, 0..255;
- *geometry*: depends on the calibration and not on the images;
- *coordinates*: whatever an index into a map is computed from (reference points, sampling offsets, projections), back
  to the learned layer that gives it, and what is computed from coordinates alone (the weights of bilinear sampling);
- *sensitive*: operators that lose their meaning in few bits (softmax, norms, logarithms), constants that half precision
  does not know.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bev._optional import require
from bev.deploy.parity import FLOAT16_MAX

FLOAT, HALF = 1, 10  # onnx.TensorProto
LEARNED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Operators that move values and leave them as they are.
LAYOUT = {
    *("Reshape", "Transpose", "Slice", "Split", "Concat", "Gather", "GatherND", "GatherElements", "Expand", "Flatten"),
    *("Squeeze", "Unsqueeze", "Pad", "Tile", "Identity", "DepthToSpace", "SpaceToDepth"),
}
SENSITIVE = {
    *("Softmax", "LogSoftmax", "LayerNormalization", "GroupNormalization", "InstanceNormalization", "ReduceL2"),
    *("Exp", "Log", "Pow", "Sqrt", "Reciprocal", "Cos", "Sin", "Atan", "CumSum", "TopK", "ReduceMean"),
}
_HALF_TINY = 2.0**-14  # the smallest number of half precision with all its bits


@dataclass(frozen=True)
class Layer:
    """What changes its precision as one: a convolution or product with constant weights, or a residual addition.

    A graph may call one several times (both images of a mirrored world, the levels of a shared head).

    Attributes:
        name: of the module, or of its weights; ``add NODE`` for a residual addition, which has none.
        nodes: names of the nodes that call it.
        weight: name of the weights; empty for an addition.
        weight_bytes: of them, in float32.
    """

    name: str
    nodes: tuple[str, ...]
    weight: str
    weight_bytes: int


class Network:
    """An exported graph with its wires and types.

    Args:
        model: ``ModelProto`` that ``write_onnx`` wrote; not changed.

    Attributes:
        nodes: by name, in order of execution.
        producer: node's name by the tensor it gives.
        consumers: nodes' names by tensor.
        types: element type by tensor.
        shapes: by tensor; None for sizes that vary.
        protected: reason by the name of every node that keeps float32.
    """

    def __init__(self, model: Any) -> None:
        onnx = require("onnx", extra="export")
        self.model = model
        self.nodes = {node.name: node for node in model.graph.node}
        if len(self.nodes) != len(model.graph.node):
            raise ValueError("the graph has nodes without a name of their own")
        self.producer = {out: node.name for node in model.graph.node for out in node.output if out}
        self.consumers: dict[str, list[str]] = defaultdict(list)
        for node in model.graph.node:
            for name in dict.fromkeys(node.input):
                if name:
                    self.consumers[name].append(node.name)
        self.initializers = {item.name: item for item in model.graph.initializer}
        self.inputs = [value.name for value in model.graph.input if value.name not in self.initializers]
        self.outputs = [value.name for value in model.graph.output]
        self._infer(onnx.shape_inference.infer_shapes(model))
        self._arrays: dict[str, Any] = {}
        self.protected: dict[str, str] = {}
        self._protect()

    def _infer(self, inferred: Any) -> None:
        graph = inferred.graph
        self.types = {name: item.data_type for name, item in self.initializers.items()}
        self.shapes: dict[str, tuple[int | None, ...]] = {n: tuple(i.dims) for n, i in self.initializers.items()}
        for value in (*graph.value_info, *graph.input, *graph.output):
            kind = value.type.tensor_type
            self.types[value.name] = kind.elem_type
            sizes = (d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
            self.shapes[value.name] = tuple(sizes)

    # Looking --------------------------------------------------------------------------------------------------------

    def is_float(self, tensor: str) -> bool:
        """Whether a tensor holds floating-point numbers."""
        return self.types.get(tensor) in (FLOAT, HALF)

    def constant(self, tensor: str) -> Any:
        """A constant's value, or None."""
        if tensor not in self.initializers:
            return None
        if tensor not in self._arrays:
            self._arrays[tensor] = require("onnx", extra="export").numpy_helper.to_array(self.initializers[tensor])
        return self._arrays[tensor]

    def activations(self, node: Any) -> list[str]:
        """Its floating-point inputs that are no constants."""
        return [name for name in dict.fromkeys(node.input) if name not in self.initializers and self.is_float(name)]

    def is_learned(self, node: Any) -> bool:
        """A convolution or product whose weights are constant and worth the name."""
        if node.op_type not in LEARNED or len(node.input) < 2:
            return False
        weight = self.initializers.get(node.input[1])
        return weight is not None and len(weight.dims) >= 2 and node.input[0] not in self.initializers

    def layers(self) -> list[Layer]:
        """Learned layers whose nodes are not protected, in order of execution."""
        calls: dict[str, list[str]] = defaultdict(list)
        for node in self.nodes.values():
            if self.is_learned(node):
                calls[node.input[1]].append(node.name)
        free = {weight: names for weight, names in calls.items() if not any(n in self.protected for n in names)}
        found = []
        for weight, names in free.items():
            size = 4 * int(np.prod(self.initializers[weight].dims))
            found.append(Layer(self._module(self.nodes[names[0]], weight), tuple(names), weight, size))
        counts: dict[str, int] = defaultdict(int)
        for layer in found:
            counts[layer.name] += 1
        return [layer if counts[layer.name] == 1 else replace(layer, name=layer.nodes[0]) for layer in found]

    def residual_adds(self) -> list[str]:
        """Additions of two maps of one shape inside the network: shortcuts, and levels of a pyramid joined."""
        found = []
        for name, node in self.nodes.items():
            reads = [t for t in self.activations(node) if t in self.producer and self._sees[self.producer[t]]]
            shapes = [self.shapes.get(t) for t in (*reads, *node.output)]
            if node.op_type == "Add" and name not in self.protected and len(reads) == 2 and None not in shapes:
                if len(set(shapes)) == 1 and len(shapes[0] or ()) == 4:
                    found.append(name)
        return found

    def first_layers(self) -> set[str]:
        """Nodes of learned layers without another before them that sees the images."""
        self._learned_before(next(iter(self.nodes.values())))
        return {n for n, node in self.nodes.items() if self.is_learned(node) and not self._after_learned[n]}

    def last_layers(self) -> set[str]:
        """Nodes of learned layers without another after them."""
        before: dict[str, bool] = {}
        found = set()
        for name, node in reversed(self.nodes.items()):
            after = any(before.get(out, False) for out in node.output)
            if self.is_learned(node) and not after:
                found.add(name)
            if after or self.is_learned(node):
                before |= dict.fromkeys((i for i in node.input if i), True)
        return found

    def _module(self, node: Any, weight: str) -> str:
        inside = [scope for scope in scopes(node)[:-1] if scope.startswith("model.")]
        return inside[-1].removeprefix("model.") if inside else weight.removesuffix(".weight")

    def boundary(self) -> list[str]:
        """Tensors that the network hands to the post-processing: what sensitivity is measured on."""
        after = {name for name, reason in self.protected.items() if reason == "post-processing"}
        found = []
        for node in self.nodes.values():
            if node.name in after or self.protected.get(node.name) == "geometry" or not self._sees[node.name]:
                continue
            for out in node.output:
                reads = self.consumers.get(out, [])
                if self.is_float(out) and (out in self.outputs or any(name in after for name in reads)):
                    found.append(out)
        return found

    # Protecting -----------------------------------------------------------------------------------------------------

    def _protect(self) -> None:
        self._sees, calibrated = self._reached(self._is_image), self._reached(self._is_calibration)
        for name, node in self.nodes.items():
            path = scopes(node)
            if not path and any(self.protected.get(self.producer.get(i, "")) == "post-processing" for i in node.input):
                self.protected[name] = "post-processing"  # a part of an operation that the exporter took apart
            elif path and not any(scope.startswith("model.") for scope in path):
                self.protected[name] = "post-processing" if self._learned_before(node) else "preparation"
            elif any(scope.startswith("model.preprocess") for scope in path):
                self.protected[name] = "preparation"
            elif calibrated[name] and not self._sees[name]:
                self.protected[name] = "geometry"
            elif node.op_type in SENSITIVE:
                self.protected[name] = "sensitive operator"
            elif not self.is_learned(node) and any(
                _unfit(self.constant(i)) for i in node.input if i in self.initializers and self.is_float(i)
            ):
                self.protected[name] = "constant outside half precision"
        for name in self._coordinates():
            self.protected.setdefault(name, "coordinates")

    @staticmethod
    def _is_image(name: str) -> bool:
        return name == "images" or name.startswith("state_")

    @staticmethod
    def _is_calibration(name: str) -> bool:
        return name.removeprefix("mirrored_") in ("img_from_ref", "ref_from_img", "camera_numbers")

    def _reached(self, wanted: Any) -> dict[str, bool]:
        """Whether any of some inputs is an ancestor, by node."""
        tensors = {name: wanted(name) for name in self.inputs}
        found = {}
        for name, node in self.nodes.items():
            found[name] = any(tensors.get(i, False) for i in node.input)
            tensors |= dict.fromkeys(node.output, found[name])
        return found

    def _learned_before(self, node: Any) -> bool:
        """Whether a learned layer is an ancestor: what comes before the first one prepares images."""
        if not hasattr(self, "_after_learned"):
            tensors: dict[str, bool] = {}
            self._after_learned: dict[str, bool] = {}
            for name, other in self.nodes.items():
                after = any(tensors.get(i, False) for i in other.input)
                self._after_learned[name] = after
                tensors |= dict.fromkeys(other.output, after or self.is_learned(other))
        return self._after_learned[node.name]

    def _coordinates(self) -> set[str]:
        """Nodes that indices into maps come from, and those that work on them alone."""
        found: set[str] = set()
        pending = [n.input[0] for n in self.nodes.values() if n.op_type == "Cast" and self._becomes_index(n)]
        while pending:
            name = self.producer.get(pending.pop())
            if name is None or name in found or self.protected.get(name) == "post-processing":
                continue
            found.add(name)
            node = self.nodes[name]
            # A learned layer, a memory or a choice gives coordinates; what it reads are features.
            if not self.is_learned(node) and node.op_type not in ("TopK", "GatherND", "GatherElements"):
                pending += self.activations(node)
        for name, node in self.nodes.items():
            reads = [i for i in self.activations(node) if i in self.producer]
            if reads and name not in self.protected and all(self.producer[i] in found for i in reads):
                if not self.is_learned(node):
                    found.add(name)
        return found

    def _becomes_index(self, cast: Any) -> bool:
        """Whether a cast turns float numbers into integers that a gather reads as its indices."""
        if not self.is_float(cast.input[0]) or self.types.get(cast.output[0]) not in (6, 7):
            return False
        seen: set[str] = set()
        pending = [cast.output[0]]
        while pending:
            tensor = pending.pop()
            for name in self.consumers.get(tensor, []):
                node = self.nodes[name]
                if node.op_type.startswith("Gather") and tensor == node.input[1]:
                    return True
                if name not in seen and self.types.get(node.output[0]) in (6, 7):
                    seen.add(name)
                    pending += node.output
        return False


def scopes(node: Any) -> list[str]:
    """Paths of the modules that a node was recorded in, outermost first, and its own name last; empty where unknown."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            return [scope for scope in ast.literal_eval(entry.value) if scope]
    return []


def without_stack_traces(model: Any) -> None:
    """Drop what the exporter notes of every node but its modules (in place): a quarter of a small detector's file."""
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)


def _unfit(array: Any) -> bool:
    """Whether half precision would change a constant's meaning: too large, or (a scalar) next to nothing."""
    if array is None or not array.size:
        return False
    magnitude = np.abs(array[np.isfinite(array)])
    if magnitude.size and float(magnitude.max()) > FLOAT16_MAX:
        return True
    return array.size == 1 and 0 < float(magnitude.max(initial=0.0)) < _HALF_TINY


def weights_bytes(model: Any, tensors: Iterable[str] | None = None) -> int:
    """Bytes of a model's constants."""
    wanted = None if tensors is None else set(tensors)
    array = require("onnx", extra="export").numpy_helper.to_array
    return sum(array(item).nbytes for item in model.graph.initializer if wanted is None or item.name in wanted)
