"""Eight-bit integers placed as onnxruntime's CPU kernels fuse them: from one layer to the next without a float between.

onnxruntime has integer convolutions only where their results are integers too. Here so are those results, the
activations after them and what joins or moves them, each with the range that it takes:

- unsigned eight bits with a zero point for activations, int8 by output channel for weights, int32 for biases: the
  product that x86's VNNI and Arm's dot-product instructions compute;
- products (MatMul, Gemm) read integers and give float; a MatMul whose bias is added behind it stays in float32, because
  onnxruntime makes one float kernel of both before it looks for integers;
- what leaves the network, or reaches a node that keeps float32 without another layer between, is not rounded: the last
  convolutions of a head stay in float32, and so does a sum of two maps that is an output (what it reads is rounded).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any, Literal, get_args

import numpy as np

from bev._optional import require
from bev.deploy.quantize.network import Layer, Network, without_stack_traces
from bev.deploy.quantize.qdq import Quantized, Recipe, prune
from bev.deploy.quantize.ranges import Frames, extremes, ranges

Placement = Literal["tensorrt", "onnxruntime"]
PLACEMENTS: tuple[str, ...] = get_args(Placement)
_PRODUCTS = ("MatMul", "Gemm")
_JOINED = ("Add", "Concat", "Mul")
_SILU_ENDS = -8.0  # x sigmoid(x) is above -.003 from here down
# Integer kernels, and operators that move eight bits as they are.
_INTEGER = (
    *("AveragePool", "Clip", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Relu", "Resize", "Sigmoid"),
    *("Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
)


class WholeInteger(Quantized):
    """:class:`Quantized` for onnxruntime on a CPU; arguments, attributes and errors as there.

    Residual additions are no layers of their own here: they are integers where both of their inputs are.

    Attributes:
        ranges: by tensor, what the smallest and the largest integer stand for; ``limits`` has the larger magnitude.
    """

    def __init__(
        self, model: Any, recipe: Recipe, frames: Frames, known: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(model, replace(recipe, residual_adds=False), frames, known)

    def _calibrate(self, frames: Frames, known: Mapping[str, float] | None) -> None:
        reasons = self._float_layers()
        self.excluded |= reasons
        self.layers = [layer for layer in self.layers if layer.name not in reasons]
        if not self.layers:
            raise ValueError(f"no layer can be quantised for onnxruntime: {next(iter(reasons.values()))}")
        tensors = self._touched(integer_nodes(self.network, self.layers))
        self.ranges = ranges(self.network, frames, tensors, self.recipe.method, self.recipe.percentile)
        self._take_known(known or {})
        self._widen_silu(frames)
        self.limits = {tensor: max(-low, high) for tensor, (low, high) in self.ranges.items()}

    def _take_known(self, known: Mapping[str, float]) -> None:
        for layer in self.layers if known else ():
            for name in layer.nodes:
                tensor = self.network.nodes[name].input[0]
                self.ranges[tensor] = max(self.ranges[tensor][0], -known[layer.name]), known[layer.name]

    def _widen_silu(self, frames: Frames) -> None:
        """What x sigmoid(x) reads gets the range that matters to what it gives, not that of its own least error."""
        results = {}
        for node in self.network.nodes.values():
            if node.op_type != "Mul" or not self.ranges.keys() >= {*node.input, *node.output}:
                continue
            for x, gate in permutations(node.input, 2):
                maker = self.network.nodes.get(self.network.producer.get(gate, ""))
                if maker is not None and maker.op_type == "Sigmoid" and maker.input[0] == x:
                    results[x] = node.output[0]
        for x, (low, high) in extremes(self.network, frames, list(results)).items():
            self.ranges[x] = max(low, _SILU_ENDS), min(high, self.ranges[results[x]][1])

    def _float_layers(self) -> dict[str, str]:
        """Reason by the name of each layer without an integer kernel."""
        leaving = _leaving(self.network)
        found = {}
        for layer in self.layers:
            kinds = {self.network.nodes[name].op_type for name in layer.nodes}
            if "ConvTranspose" in kinds:
                found[layer.name] = "onnxruntime has no integer kernel of transposed convolutions"
            elif "Conv" in kinds and not leaving.isdisjoint(layer.nodes):
                found[layer.name] = "its result leaves the network, or is read in float32"
            elif "MatMul" in kinds and any(self._biased(name) for name in layer.nodes):
                found[layer.name] = "onnxruntime joins it with its bias, in float32"
        return found

    def _biased(self, product: str) -> bool:
        readers = self.network.consumers.get(self.network.nodes[product].output[0], [])
        nodes = [self.network.nodes[name] for name in readers]
        return any(n.op_type == "Add" and not self.network.initializers.keys().isdisjoint(n.input) for n in nodes)

    def _touched(self, nodes: Collection[str]) -> list[str]:
        """Float tensors that nodes read and give."""
        found: dict[str, None] = {}
        for name in nodes:
            node = self.network.nodes[name]
            found |= dict.fromkeys(self.network.activations(node))
            found |= dict.fromkeys(out for out in node.output if self.network.is_float(out))
        return list(found)

    def graph(self, keep: Collection[str] = ()) -> Any:
        """The quantised ``ModelProto``; argument and errors as of :meth:`Quantized.graph`."""
        self._check_names(keep)
        kept = [layer for layer in self.layers if layer.name not in keep]
        nodes = integer_nodes(self.network, kept)
        onnx, quantization = require("onnx", extra="export"), require("onnxruntime.quantization", extra="export")
        calibrate = require("onnxruntime.quantization.calibrate", extra="export")
        quantizer_type = require("onnxruntime.quantization.qdq_quantizer", extra="export").QDQQuantizer
        pairs = {t: (np.float32(low), np.float32(high)) for t, (low, high) in self.ranges.items()}
        known = calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, pairs)
        copied = onnx.ModelProto()
        copied.CopyFrom(self.model)
        types = sorted({self.network.nodes[name].op_type for name in nodes})
        integer, unsigned = quantization.QuantType.QInt8, quantization.QuantType.QUInt8
        options = {"WeightSymmetric": True, "OpTypesToExcludeOutputQuantization": list(_PRODUCTS)}
        quantizer = quantizer_type(copied, True, False, integer, unsigned, known, list(nodes), [], types, options)
        result = quantizer.quantize_model() if nodes else copied
        prune(result)
        without_stack_traces(result)
        return result


def quantize_graph(
    model: Any,
    recipe: Recipe,
    frames: Frames,
    known: Mapping[str, float] | None = None,
    placement: Placement = "tensorrt",
) -> Quantized:
    """:class:`Quantized` or :class:`WholeInteger`, by what is to run the graph; their arguments and errors."""
    if placement not in PLACEMENTS:
        raise ValueError(f"placement {placement!r}; known: {', '.join(PLACEMENTS)}")
    kind = WholeInteger if placement == "onnxruntime" else Quantized
    return kind(model, recipe, frames, known)


def integer_nodes(network: Network, layers: Iterable[Layer]) -> dict[str, None]:
    """Names, in order, of the nodes that compute in integers where some layers do."""
    eight = {name for layer in layers for name in layer.nodes}
    leaving, found = _leaving(network), dict[str, None]()
    rounded: set[str] = set()  # tensors that integer kernels give
    for name, node in network.nodes.items():
        reads = network.activations(node)
        joined = node.op_type in _JOINED and len(reads) == len(set(node.input))
        free = name not in network.protected and name not in leaving and bool(reads)
        if name in eight or free and (node.op_type in _INTEGER or joined) and rounded.issuperset(reads):
            found[name] = None
            rounded |= set() if node.op_type in _PRODUCTS else set(node.output)
    return found


def _leaving(network: Network) -> set[str]:
    """Nodes whose results leave the network, or reach one that keeps float32, without another layer between.

    What a sum of two maps reads does not leave through it: otherwise a trunk would keep float32 along its shortcuts
    wherever its last map is an output, too.
    """
    layers = {name for layer in network.layers() for name in layer.nodes}
    found, passed = set[str](), set[str]()  # nodes, and tensors that readers pass on to the end
    for name, node in reversed(network.nodes.items()):
        if not passed.isdisjoint(node.output) or not set(network.outputs).isdisjoint(node.output):
            found.add(name)
        kept, sums = name in network.protected, node.op_type == "Add" and len(network.activations(node)) == 2
        if kept or name in found and name not in layers and not sums:
            passed |= set(node.input)
    return found
