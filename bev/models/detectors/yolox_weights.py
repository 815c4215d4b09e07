"""Official YOLOX weights, as a checkpoint or as an exported ONNX file, under the names they have here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bev._optional import require
from bev.io.checkpoint import CheckpointError
from bev.models.detectors.dense import DenseDetector

_HEAD = {"cls_preds": "conv_cls", "reg_preds": "conv_reg", "obj_preds": "conv_quality"}


def from_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the official state dict (``backbone.backbone.*``, ``backbone.*``, ``head.*``).

    Raises:
        CheckpointError: a name that the official network does not have.
    """
    return {_renamed(name): value for name, value in weights.items()}


def _renamed(name: str) -> str:
    first, _, rest = name.partition(".")
    part, _, leaf = rest.partition(".")
    if first == "backbone":
        return f"backbone.{leaf}" if part == "backbone" else f"neck.{rest}"
    if first != "head":
        raise CheckpointError(f"{name!r} is not a name of the official YOLOX network (backbone.*, head.*)")
    if part == "stems":
        return f"neck.stems.{leaf}"
    leaf = leaf.replace(".dconv.", ".depthwise_conv.").replace(".pconv.", ".pointwise_conv.")
    return f"head.network.{_HEAD.get(part, part)}.{leaf}"


def load_onnx(model: DenseDetector, path: str | Path) -> None:
    """Fill a network from the official ONNX export, whose batch norms are folded into its convolutions.

    Convolutions are matched in the order in which the official network calls them; every shape is checked. The batch
    norms become those that add the folded bias and change nothing else.

    Raises:
        CheckpointError: not an ONNX file, or convolutions of another number or shape; the model is left as it was.
        ImportError: onnx is not installed.
    """
    parameters = _convolutions(path)
    modules = _in_official_order(model)
    if len(parameters) != len(modules):
        raise CheckpointError(f"{path} has {len(parameters)} convolutions, the network {len(modules)}")
    for (name, (conv, _)), (weight, _) in zip(modules.items(), parameters):
        if conv.weight.shape != weight.shape:
            raise CheckpointError(
                f"{path}: the convolution for {name} is {tuple(weight.shape)}, expected {tuple(conv.weight.shape)}"
            )
    for (conv, norm), (weight, bias) in zip(modules.values(), parameters):
        _fill(conv, norm, weight, bias)


def _convolutions(path: str | Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of every Conv node, in the graph's order."""
    onnx = require("onnx", extra="export")
    if not Path(path).is_file():
        raise CheckpointError(f"{path} does not exist")
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf raises errors of its own
        raise CheckpointError(f"{path} is not an ONNX file ({type(error).__name__}: {error})") from error
    arrays = {item.name: item for item in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type == "Conv":
            if len(node.input) != 3 or not set(node.input[1:]) <= set(arrays):
                raise CheckpointError(f"{path}: convolution {node.name} has no constant weight and bias")
            weight, bias = (torch.from_numpy(onnx.numpy_helper.to_array(arrays[i]).copy()) for i in node.input[1:])
            found.append((weight, bias))
    return found


def _in_official_order(model: DenseDetector) -> dict[str, tuple[nn.Conv2d, nn.BatchNorm2d | None]]:
    """Convolutions with their norms: backbone and neck as called, then level by level stem, classes, boxes."""
    assert model.neck is not None
    names = [*_called(model.backbone, "backbone"), *_neck_order()]
    network = "head.network"
    for level in range(3):
        names += [f"neck.stems.{level}", f"{network}.cls_convs.{level}", f"{network}.conv_cls.{level}"]
        names += [f"{network}.{part}.{level}" for part in ("reg_convs", "conv_reg", "conv_quality")]
    modules = dict(model.named_modules())
    pairs: dict[str, tuple[nn.Conv2d, nn.BatchNorm2d | None]] = {}
    for name in names:
        for inner, conv in modules[name].named_modules():
            if isinstance(conv, nn.Conv2d):
                full = f"{name}.{inner}".rstrip(".")
                norm = modules.get(f"{full.rpartition('.')[0]}.bn") if full.endswith(".conv") else None
                pairs[full] = (conv, norm if isinstance(norm, nn.BatchNorm2d) else None)
    return pairs


def _called(backbone: nn.Module, prefix: str) -> list[str]:
    """A CSP layer calls its two entrances, then the bottlenecks, then its exit; everything else is in order."""
    names: list[str] = []
    for name, child in backbone.named_children():
        names += _csp_order(child, f"{prefix}.{name}")
    return names


def _csp_order(module: nn.Module, name: str) -> list[str]:
    children = dict(module.named_children())
    if {"conv1", "conv2", "conv3", "m"} <= set(children):
        return [f"{name}.conv1", f"{name}.conv2", f"{name}.m", f"{name}.conv3"]
    if isinstance(module, nn.Sequential):
        return [part for key, child in children.items() for part in _csp_order(child, f"{name}.{key}")]
    return [name]


def _neck_order() -> list[str]:
    order = ("lateral_conv0", "C3_p4", "reduce_conv1", "C3_p3", "bu_conv2", "C3_n3", "bu_conv1", "C3_n4")
    parts = ("conv1", "conv2", "m", "conv3")
    return [f"neck.{name}{part}" for name in order for part in ([f".{p}" for p in parts] if name[0] == "C" else [""])]


@torch.no_grad()
def _fill(conv: nn.Conv2d, norm: nn.BatchNorm2d | None, weight: Tensor, bias: Tensor) -> None:
    conv.weight.copy_(weight)
    if norm is None:
        assert conv.bias is not None
        conv.bias.copy_(bias)
        return
    norm.weight.fill_(1.0)
    norm.bias.copy_(bias)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)
