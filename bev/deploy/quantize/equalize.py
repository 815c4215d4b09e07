"""Cross-layer equalisation (Nagel et al., "Data-free quantization through weight equalization and bias correction",
ICCV 2019, arXiv 1906.04721): channels between two convolutions are scaled so that none is lost beside another.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from bev._optional import require
from bev.deploy.quantize.network import Network

# f(s x) = s f(x) for s > 0: a scale passes through.
_HOMOGENEOUS = ("Relu", "LeakyRelu")
_SWEEPS = 20


@dataclass(frozen=True)
class Pair:
    """Two convolutions with nothing but a homogeneous activation between them; names of their weights and bias."""

    first: str
    bias: str | None
    second: str
    groups: int


def equalize(model: Any) -> tuple[Any, int]:
    """A copy of an exported graph with equalised weights, and how many pairs of layers there were.

    Batch norms must have been folded (``write_onnx`` does). The result is the same function up to rounding. Chains
    through SiLU and the like have no scale that passes through them and are left alone.
    """
    network = Network(model)
    pairs = find_pairs(network)
    arrays = {n: network.constant(n).astype(np.float64) for p in pairs for n in (p.first, p.bias, p.second) if n}
    for _ in range(_SWEEPS):
        if max((_balance(arrays, pair) for pair in pairs), default=0.0) < 1e-4:
            break
    onnx = require("onnx", extra="export")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for item in result.graph.initializer:
        if item.name in arrays:
            item.CopyFrom(onnx.numpy_helper.from_array(arrays[item.name].astype(np.float32), item.name))
    return result, len(pairs)


def find_pairs(network: Network) -> list[Pair]:
    """Pairs of convolutions of which every call of one is followed by a call of the other alone."""
    followers: dict[str, set[str]] = defaultdict(set)  # weights that read what a layer gives; "" for anything else
    leaders: dict[str, set[str]] = defaultdict(set)
    biases: dict[str, set[str | None]] = defaultdict(set)
    groups: dict[str, int] = {}
    for node in network.nodes.values():
        if node.op_type != "Conv" or not network.is_learned(node):
            continue
        weight = node.input[1]
        biases[weight].add(node.input[2] if len(node.input) > 2 else None)
        groups[weight] = next((a.i for a in node.attribute if a.name == "group"), 1)
        followers[weight] |= _followers(network, node.output[0])
        leaders[weight].add(_leader(network, node.input[0]))
    users: dict[str, int] = defaultdict(int)
    for names in biases.values():
        for name in names:
            users[name or ""] += 1
    found = []
    for weight, after in followers.items():
        second, bias = next(iter(after)), next(iter(biases[weight]))
        alone = len(after) == 1 and second and leaders[second] == {weight} and second != weight
        if alone and len(biases[weight]) == 1 and (bias is None or users[bias] == 1):
            found.append(Pair(weight, bias, second, groups[second]))
    return found


def _followers(network: Network, tensor: str) -> set[str]:
    readers = [network.nodes[name] for name in network.consumers.get(tensor, [])]
    if len(readers) == 1 and readers[0].op_type in _HOMOGENEOUS and tensor not in network.outputs:
        tensor = readers[0].output[0]
        readers = [network.nodes[name] for name in network.consumers.get(tensor, [])]
    found = {n.input[1] if n.op_type == "Conv" and n.input[0] == tensor else "" for n in readers}
    return found | ({""} if tensor in network.outputs or not readers else set())


def _leader(network: Network, tensor: str) -> str:
    node = network.nodes.get(network.producer.get(tensor, ""))
    if node is not None and node.op_type in _HOMOGENEOUS:
        node = network.nodes.get(network.producer.get(node.input[0], ""))
    return node.input[1] if node is not None and node.op_type == "Conv" and network.is_learned(node) else ""


def _balance(arrays: dict[str, np.ndarray], pair: Pair) -> float:
    """Scale one pair; how far the largest scale is from 1 (as a logarithm)."""
    first, second = arrays[pair.first], arrays[pair.second]
    out_size = np.abs(first).reshape(len(first), -1).max(1)
    # (groups, outputs, inputs of a group, taps): channel c of the first layer is input c % inputs of group c // inputs.
    grouped = second.reshape(pair.groups, len(second) // pair.groups, second.shape[1], -1)
    in_size = np.abs(grouped).max(axis=(1, 3)).reshape(-1)
    if len(in_size) != len(out_size):
        raise ValueError(f"{pair.first} gives {len(out_size)} channels, {pair.second} takes {len(in_size)}")
    live = (out_size > 1e-8) & (in_size > 1e-8)  # a dead channel has no scale
    scale = np.where(live, np.sqrt(np.where(live, out_size, 1) / np.where(live, in_size, 1)), 1.0)
    arrays[pair.first] = first / scale.reshape(-1, *[1] * (first.ndim - 1))
    if pair.bias is not None:
        arrays[pair.bias] = arrays[pair.bias] / scale
    arrays[pair.second] = (grouped * scale.reshape(pair.groups, 1, -1, 1)).reshape(second.shape)
    return float(np.abs(np.log(scale)).max())
