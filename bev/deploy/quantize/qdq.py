"""Eight-bit integers as QuantizeLinear and DequantizeLinear nodes, placed as TensorRT fuses them.

onnxruntime's quantizer writes the nodes and the weights; where they go is decided here:

- symmetric int8 with zero points of 0 (TensorRT has no others), weights by output channel, biases in float32;
- on the inputs of convolutions and products alone, never between one and its activation, so that a convolution, its
  activation and the next quantisation are one kernel;
- on both inputs of a residual addition with one common scale, so that the shortcut stays in eight bits;
- one pair a tensor, shared by the layers that read it in eight bits; whatever else reads it gets the unrounded tensor.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bev._optional import require
from bev.deploy.quantize.network import LEARNED, Layer, Network, without_stack_traces
from bev.deploy.quantize.ranges import Frames, Method, thresholds
from bev.ops.fake_quantize import LEVELS

_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "AddQDQPairToWeight": False,
    "DedicatedQDQPair": False,
    "OpTypesToExcludeOutputQuantization": [*LEARNED, "Add"],
}


@dataclass(frozen=True)
class Recipe:
    """How a graph gets its integers.

    Attributes:
        method: how scales follow from the calibration frames, see :func:`thresholds`.
        percentile: of that method.
        frames: of the training set.
        first_layer: quantise the layers that see the images first.
        last_layers: quantise the layers that give scores and boxes.
        keep: patterns (``fnmatch``) of layers that stay in higher precision.
        residual_adds: quantise residual additions.
        half_scales: scales of weights that float16 holds exactly, for graphs whose other layers are in float16.
    """

    method: Method = "mse"
    percentile: float = 99.99
    frames: int = 32
    first_layer: bool = True
    last_layers: bool = True
    keep: tuple[str, ...] = ()
    residual_adds: bool = True
    half_scales: bool = False


class Quantized:
    """A graph with all candidate layers in int8, from which any of them can be taken back.

    Args:
        model: ``ModelProto`` in float32; not changed.
        recipe: see :class:`Recipe`.
        frames: calibration inputs by name.
        known: thresholds of layers' inputs by layer's name, of quantisation-aware training; layers that have none are
            then left as they are. None: all follow from the frames.

    Attributes:
        layers: that are quantised, in order of execution; residual additions last.
        excluded: reason by the name of every layer that is not.
        limits: threshold by tensor.

    Raises:
        ValueError: nothing to quantise, a pattern that fits no layer, or frames that do not calibrate.
    """

    def __init__(
        self, model: Any, recipe: Recipe, frames: Frames, known: Mapping[str, float] | None = None
    ) -> None:
        self.model, self.recipe = _outputs_apart(model), recipe
        self.network = Network(self.model)
        self.layers, self.excluded = _chosen(self.network, recipe)
        if known is not None:
            self._only_known(known)
        self.limits: dict[str, float] = {}
        self._calibrate(frames, known)

    def _calibrate(self, frames: Frames, known: Mapping[str, float] | None) -> None:
        """Choose the scales."""
        recipe = self.recipe
        self.limits = thresholds(self.network, frames, self._tensors(), recipe.method, recipe.percentile)
        if known is not None:
            self._take_known(known)
        self._join_additions()
        weighted = [layer for layer in self.layers if layer.weight]
        self._full = self._written(
            {layer.weight: _half_scales(self.network, layer) for layer in weighted} if recipe.half_scales else {}
        )

    def _take_known(self, known: Mapping[str, float]) -> None:
        """Thresholds of inputs that training has found, in place of measured ones."""
        for layer in self.layers:
            for name in layer.nodes if layer.weight else ():
                self.limits[self.network.nodes[name].input[0]] = known[layer.name]

    def _only_known(self, known: Mapping[str, float]) -> None:
        self.excluded |= {la.name: "not trained in int8" for la in self.layers if la.weight and la.name not in known}
        self.layers = [layer for layer in self.layers if layer.name not in self.excluded]
        if not any(layer.weight for layer in self.layers):
            raise ValueError(f"no layer of the graph was trained in int8; those that were: {', '.join(known)[:200]}")

    def _tensors(self) -> list[str]:
        nodes = [self.network.nodes[name] for layer in self.layers for name in layer.nodes]
        reads = [t for n in nodes for t in (n.input if n.op_type == "Add" else n.input[:1])]
        return list(dict.fromkeys(reads))

    def _join_additions(self) -> None:
        """Both inputs of an addition get the larger threshold; chains of additions get that of the whole chain."""
        pairs = [self.network.nodes[layer.nodes[0]].input for layer in self.layers if not layer.weight]
        changed = True
        while changed:
            changed = False
            for a, b in pairs:
                largest = max(self.limits[a], self.limits[b])
                changed |= self.limits[a] != self.limits[b]
                self.limits[a] = self.limits[b] = largest

    def _written(self, scales: Mapping[str, np.ndarray]) -> Any:
        onnx, quantization = require("onnx", extra="export"), require("onnxruntime.quantization", extra="export")
        quantizer_type = require("onnxruntime.quantization.qdq_quantizer", extra="export").QDQQuantizer
        calibrate = require("onnxruntime.quantization.calibrate", extra="export")
        ranges = {t: (np.float32(-size), np.float32(size)) for t, size in self.limits.items()}
        known = calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, ranges)
        nodes = [name for layer in self.layers for name in layer.nodes]
        copied = onnx.ModelProto()
        copied.CopyFrom(self.model)
        integer = quantization.QuantType.QInt8
        overrides = {"TensorQuantOverrides": _overrides(self.network, self.layers, scales)}
        quantizer = quantizer_type(
            *(copied, True, False, integer, integer, known, nodes, [], [*LEARNED, "Add"]), {**_OPTIONS, **overrides}
        )
        return quantizer.quantize_model()

    def graph(self, keep: Collection[str] = ()) -> Any:
        """The quantised ``ModelProto``.

        Args:
            keep: names of layers that stay as they were.

        Raises:
            ValueError: a name that is none of :attr:`layers`.
        """
        self._check_names(keep)
        eight = {name for layer in self.layers if layer.name not in keep for name in layer.nodes}
        result = require("onnx", extra="export").ModelProto()
        result.CopyFrom(self._full)
        for node in result.graph.node:
            original = self.network.nodes.get(node.name)
            if original is not None and node.name not in eight:
                node.input[:] = original.input
        present = {item.name for item in result.graph.initializer}
        result.graph.initializer.extend(i for n, i in self.network.initializers.items() if n not in present)
        prune(result)
        without_stack_traces(result)
        return result

    def _check_names(self, keep: Collection[str]) -> None:
        unknown = set(keep) - {layer.name for layer in self.layers}
        if unknown:
            raise ValueError(f"no quantised layers {sorted(unknown)[:3]}")

    def only(self, layer: str) -> Any:
        """The graph with one layer in int8."""
        return self.graph([other.name for other in self.layers if other.name != layer])


def _chosen(network: Network, recipe: Recipe) -> tuple[list[Layer], dict[str, str]]:
    first, last = network.first_layers(), network.last_layers()
    layers = network.layers()
    if recipe.residual_adds:
        layers += [Layer(f"add {name.removeprefix('node_')}", (name,), "", 0) for name in network.residual_adds()]
    kept: list[Layer] = []
    excluded: dict[str, str] = {}
    for layer in layers:
        pattern = next((p for p in recipe.keep if fnmatch.fnmatchcase(layer.name, p)), None)
        if pattern is not None:
            excluded[layer.name] = f"kept by {pattern!r}"
        elif not recipe.first_layer and not first.isdisjoint(layer.nodes):
            excluded[layer.name] = "first layer"
        elif not recipe.last_layers and not last.isdisjoint(layer.nodes):
            excluded[layer.name] = "last layer"
        else:
            kept.append(layer)
    unused = [p for p in recipe.keep if not any(fnmatch.fnmatchcase(layer.name, p) for layer in layers)]
    if unused:
        known = ", ".join(layer.name for layer in layers[:4])
        raise ValueError(f"no layer fits {', '.join(map(repr, unused))}; layers are {known}, ...")
    if not kept:
        raise ValueError("no layer is left to quantise")
    for name, reason in network.protected.items():
        if network.is_learned(network.nodes[name]):
            excluded[name] = reason
    return kept, excluded


def _overrides(
    network: Network, layers: Iterable[Layer], scales: Mapping[str, np.ndarray]
) -> dict[str, list[dict[str, Any]]]:
    """Known scales in the form that onnxruntime's quantizer takes."""
    found = {}
    for layer in layers:
        if layer.weight in scales:
            node = network.nodes[layer.nodes[0]]
            zero = np.array(0, dtype=np.int8)
            rows = [{"scale": np.array(s, np.float32), "zero_point": zero} for s in scales[layer.weight]]
            found[layer.weight] = [{**row, "axis": output_axis(node)} for row in rows]
    return found


def _half_scales(network: Network, layer: Layer) -> np.ndarray:
    """The scales that follow from the largest weights, rounded up to float16."""
    array = np.abs(network.constant(layer.weight).astype(np.float64))
    axis = output_axis(network.nodes[layer.nodes[0]])
    wanted = array.max(axis=tuple(i for i in range(array.ndim) if i != axis)) / LEVELS
    wanted[wanted == 0] = 1 / LEVELS
    near = wanted.astype(np.float16)
    return np.where(near < wanted, np.nextafter(near, np.float16(np.inf)), near).astype(np.float32)


def output_axis(node: Any) -> int:
    """Axis of the output channels in the weights of a learned layer."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 0 if node.op_type == "Conv" else 1


def _outputs_apart(model: Any) -> Any:
    """A copy in which no output of the graph is read inside it: what is read may then be rounded, the output not."""
    onnx = require("onnx", extra="export")
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    read = {name for node in copied.graph.node for name in node.input}
    for value in copied.graph.output:
        if value.name not in read:
            continue
        inner = f"{value.name}_inner"
        for node in copied.graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == value.name:
                        names[index] = inner
        made = next(i for i, node in enumerate(copied.graph.node) if inner in node.output)
        give = onnx.helper.make_node("Identity", [inner], [value.name], name=f"give_{inner}")
        copied.graph.node.insert(made + 1, give)
        copied.graph.node[made + 1].metadata_props.extend(copied.graph.node[made].metadata_props)
        known = onnx.ValueInfoProto()
        known.CopyFrom(value)
        known.name = inner
        copied.graph.value_info.append(known)
    return copied


def prune(model: Any) -> None:
    """Drop nodes and constants that nothing needs, and bring the nodes into order (in place)."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    kept: list[Any] = []
    makers = {out: node for node in graph.node for out in node.output}
    done: set[str] = set()

    pending = [(name, False) for name in reversed([value.name for value in graph.output])]
    while pending:  # depth first: a node follows what it reads
        name, ready = pending.pop()
        node = makers.get(name)
        if node is None or (node.output[0] in done and not ready):
            continue
        if ready:
            if node.output[0] not in done:
                done.add(node.output[0])
                kept.append(node)
            continue
        pending.append((name, True))
        needed |= set(node.input)
        pending += [(read, False) for read in reversed(node.input) if read]
    constants = [item for item in graph.initializer if item.name in needed]
    copies = [type(node).FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)
    del graph.initializer[:]
    graph.initializer.extend(constants)
