"""A small graph by hand, as exports look: uint8 images, convolutions, a shortcut, sampling at learned points, decoding.

Written node by node, it takes no exporter and no seconds, and every rule of precision has its case in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 8


class _Maker:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any, kind: Any = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def add(self, op: str, reads: list[str], gives: str, scope: str, **attributes: Any) -> str:
        node = helper.make_node(op, reads, [gives], name=f"node_{gives}", **attributes)
        path = [scope[: i or None] for i in (*[k for k, c in enumerate(scope) if c == "."], 0)] if scope else []
        entry = node.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.name_scopes", repr(["", *path, gives])
        trace = node.metadata_props.add()
        trace.key, trace.value = "pkg.torch.onnx.stack_trace", "a long story " * 20
        self.nodes.append(node)
        return gives

    def conv(
        self, reads: str, gives: str, module: str, channels: tuple[int, int], groups: int = 1, size: int = 3
    ) -> str:
        out, inside = channels
        spread = np.exp(self.rng.normal(0, 1, (out, 1, 1, 1)))  # channels of very different size
        weight = self.rng.normal(0, 0.3, (out, inside // groups, size, size)) * spread
        bias = self.constant(f"{module}.bias", self.rng.normal(0, 0.1, out))
        names = [self.constant(f"{module}.weight", weight), bias]
        border = [size // 2] * 4
        return self.add("Conv", [reads, *names], gives, module, pads=border, group=groups)


def graph(seed: int = 0, epsilon: float = 1e-3) -> Any:
    """Inputs ``images`` (1, 3, 8, 8) uint8 and ``img_from_ref`` (1, 1, 4, 4); outputs ``score`` and ``next_map``."""
    m = _Maker(seed)
    m.add("Cast", ["images"], "floats", "", to=TensorProto.FLOAT)
    m.add("Div", ["floats", m.constant("std", 58.0)], "normal", "model.preprocess")
    m.conv("normal", "a", "model.stem", (8, 3))
    m.add("Relu", ["a"], "a_relu", "model.stem")
    m.conv("a_relu", "b", "model.block.one", (8, 8), groups=8)
    m.add("LeakyRelu", ["b"], "b_relu", "model.block", alpha=0.1)
    m.conv("b_relu", "c", "model.block.two", (8, 8), size=1)
    m.add("Add", ["c", "a_relu"], "next_map", "model.block")
    m.add("Sigmoid", ["next_map"], "gate", "model.gate")
    m.add("Mul", ["next_map", "gate"], "silu", "model.gate")
    m.conv("silu", "cls", "model.head.cls", (2, 8))
    # Points by a learned layer, moved by the calibration; values are read there.
    m.add("ReduceMean", ["silu", m.constant("last_axes", [2, 3], np.int64)], "pooled", "model.points", keepdims=0)
    m.add("MatMul", ["pooled", m.constant("model.points.offsets.weight", m.rng.normal(0, 1, (8, 1)))], "offset",
          "model.points.offsets")  # fmt: skip
    m.add("Slice", ["img_from_ref", *[m.constant(f"cut{i}", v, np.int64) for i, v in
          enumerate(([0, 0], [1, 1], [2, 3]))]], "shift4", "model.points")  # fmt: skip
    m.add("Reshape", ["shift4", m.constant("pair", [1, 1], np.int64)], "shift", "model.points")
    m.add("Add", ["offset", "shift"], "place", "model.points")
    m.add("Clip", ["place", m.constant("low", 0.0), m.constant("high", SIZE - 1.001)], "inside", "model.points")
    m.add("Floor", ["inside"], "whole", "model.points")
    m.add("Cast", ["whole"], "row", "model.points", to=TensorProto.INT64)
    m.add("Sub", ["inside", "whole"], "share", "model.points")
    m.add("Gather", ["cls", "row"], "read", "model.points", axis=2)
    m.add("Mul", ["read", "share"], "sampled", "model.points")
    m.add("Softmax", ["sampled"], "soft", "model.points", axis=-1)
    m.add("Add", ["soft", m.constant("epsilon", epsilon)], "safe", "model.points")
    m.add("Exp", ["safe"], "score", "decode")
    sizes = {"images": (TensorProto.UINT8, (1, 3, SIZE, SIZE)), "img_from_ref": (TensorProto.FLOAT, (1, 1, 4, 4))}
    inputs = [helper.make_tensor_value_info(n, kind, size) for n, (kind, size) in sizes.items()]
    ranks = {"score": 5, "next_map": 4}
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * rank) for n, rank in ranks.items()]
    body = helper.make_graph(m.nodes, "hand", inputs, outputs, m.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model)


def silu_graph() -> Any:
    """Inputs ``images``; output ``end``: two convolutions with x sigmoid(x) between, whose x reaches far below zero."""
    m = _Maker(0)
    m.add("Cast", ["images"], "floats", "", to=TensorProto.FLOAT)
    m.add("Div", ["floats", m.constant("std", 58.0)], "normal", "model.preprocess")
    m.conv("normal", "x", "model.one", (8, 3))
    m.add("Sigmoid", ["x"], "gate", "model.one")
    m.add("Mul", ["x", "gate"], "silu", "model.one")
    m.conv("silu", "end", "model.two", (2, 8))
    return _of_images(m)


def product_graph(bias: bool) -> Any:
    """The same inputs and output; a product along the rows between the convolutions."""
    m = _Maker(0)
    m.add("Cast", ["images"], "floats", "", to=TensorProto.FLOAT)
    m.add("Div", ["floats", m.constant("std", 58.0)], "normal", "model.preprocess")
    m.conv("normal", "x", "model.one", (8, 3))
    m.add("MatMul", ["x", m.constant("model.product.weight", m.rng.normal(0, 1, (SIZE, SIZE)))], "y", "model.product")
    if bias:
        m.add("Add", ["y", m.constant("model.product.bias", m.rng.normal(0, 1, SIZE))], "biased", "model.product")
    m.conv("biased" if bias else "y", "end", "model.two", (2, 8))
    return _of_images(m)


def _of_images(m: _Maker) -> Any:
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, (1, 3, SIZE, SIZE))]
    outputs = [helper.make_tensor_value_info("end", TensorProto.FLOAT, (1, 2, SIZE, SIZE))]
    body = helper.make_graph(m.nodes, "of_images", inputs, outputs, m.constants)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def frames(count: int = 4) -> list[dict[str, np.ndarray]]:
    """Inputs."""
    rng = np.random.default_rng(1)
    poses = rng.uniform(0, 6, (count, 1, 1, 4, 4)).astype(np.float32)
    images = rng.integers(0, 256, (count, 1, 3, SIZE, SIZE)).astype(np.uint8)
    return [{"images": image, "img_from_ref": pose} for image, pose in zip(images, poses)]
