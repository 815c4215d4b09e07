"""Changes of ONNX models: exact, and only where they may be made."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from bev.deploy.onnx_graph import flops
from bev.deploy.onnx_surgery import fold_constants, merge_parallel_convs, pools_as_convs

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
node = onnx.helper.make_node
RANDOM = np.random.default_rng(0)


def model_of(nodes: list[Any], outputs: list[str], sizes: list[int], constants: dict[str, np.ndarray]) -> Any:
    """A model of one input ``x``; shapes of its values are inferred."""
    info = onnx.helper.make_tensor_value_info
    items = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(
        nodes, "g", [info("x", 1, sizes)], [info(name, 1, None) for name in outputs], initializer=items
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def run(model: Any, x: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def weight(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def kinds(model: Any) -> Counter[str]:
    return Counter(item.op_type for item in model.graph.node)


def unchanged(model: Any, change: Any, sizes: list[int]) -> int:
    x = weight(*sizes)
    before = run(model, x)
    count: int = change(model)
    after = run(model, x)
    for a, b in zip(before, after):
        np.testing.assert_allclose(b, a, atol=1e-5 * float(np.abs(a).max()), rtol=0)
    return count


def conv(name: str, x: str = "x", bias: bool = True, **settings: Any) -> Any:
    inputs = [x, f"{name}_w", *([f"{name}_b"] if bias else [])]
    return node("Conv", inputs, [name], name, kernel_shape=[3, 3], **{"pads": [1, 1, 1, 1], **settings})


def constants(widths: dict[str, int], bias: tuple[str, ...]) -> dict[str, np.ndarray]:
    found = {f"{name}_w": weight(width, 4, 3, 3) for name, width in widths.items()}
    return {**found, **{f"{name}_b": weight(widths[name]) for name in bias}}


@pytest.mark.parametrize("activation", ["none", "Relu", "silu", "mixed"])
def test_parallel_convolutions_become_one(activation: str) -> None:
    """Of different widths, one of them without bias; a common activation moves before the split."""
    nodes, outputs = [conv("a"), conv("b"), conv("c", bias=False)], []
    for name in "abc":
        if activation == "silu":
            nodes += [node("Sigmoid", [name], [f"{name}s"], f"{name}s"), node("Mul", [name, f"{name}s"], [f"{name}o"])]
        elif activation == "Relu" or (activation == "mixed" and name != "b"):
            nodes.append(node("Relu", [name], [f"{name}o"], f"{name}r"))
        else:
            nodes.append(node("Identity", [name], [f"{name}o"]))
        outputs.append(f"{name}o")
    model = model_of(nodes, outputs, [2, 4, 7, 9], constants({"a": 5, "b": 1, "c": 3}, ("a", "b")))
    operations = flops(model)
    assert unchanged(model, merge_parallel_convs, [2, 4, 7, 9]) == 2
    found = kinds(model)
    assert found["Conv"] == found["Split"] == 1 and flops(model) == operations
    assert found["Relu"] == {"Relu": 1, "mixed": 2}.get(activation, 0) and found["Mul"] == (activation == "silu")
    assert len(model.graph.initializer) == 3  # joined weight, joined bias, widths


def test_shared_weights_stay_shared() -> None:
    """Towers that two levels share: two joined convolutions, one joined weight."""
    nodes = [node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])]
    for level, source in enumerate(("x", "y")):
        for name in "ab":
            nodes.append(node("Conv", [source, f"{name}_w"], [f"{name}{level}"], f"{name}{level}", pads=[1, 1, 1, 1]))
    outputs = ["a0", "b0", "a1", "b1"]
    model = model_of(nodes, outputs, [1, 4, 8, 8], constants({"a": 2, "b": 6}, ()))
    assert unchanged(model, merge_parallel_convs, [1, 4, 8, 8]) == 2
    assert kinds(model)["Conv"] == 2 and len(model.graph.initializer) == 2


def test_unlike_convolutions_stay() -> None:
    """Another stride, groups, another input, weights that are computed."""
    other = {"g_w": weight(4, 1, 3, 3), "half": np.float32(0.5)}
    nodes = [
        conv("a", bias=False),
        conv("b", bias=False, strides=[2, 2]),
        conv("g", bias=False, group=4),
        node("Relu", ["x"], ["y"]),
        conv("c", "y", bias=False),
        node("Mul", ["d_w", "half"], ["scaled"]),
        node("Conv", ["x", "scaled"], ["d"], "d", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    widths = constants({"a": 2, "b": 2, "c": 2, "d": 2}, ())
    model = model_of(nodes, ["a", "b", "g", "c", "d"], [1, 4, 6, 6], {**widths, **other})
    assert unchanged(model, merge_parallel_convs, [1, 4, 6, 6]) == 0 and kinds(model)["Conv"] == 5


def test_a_value_that_others_read_keeps_its_activation_apart() -> None:
    """``a`` is an output itself: the ReLU after it cannot move before the split."""
    nodes = [conv("a", bias=False), conv("b", bias=False), node("Relu", ["a"], ["ar"]), node("Relu", ["b"], ["br"])]
    model = model_of(nodes, ["a", "ar", "br"], [1, 4, 5, 5], constants({"a": 2, "b": 3}, ()))
    assert unchanged(model, merge_parallel_convs, [1, 4, 5, 5]) == 1 and kinds(model)["Relu"] == 2


def test_means_become_convolutions() -> None:
    """Windows with and without stride, padding that counts, whole maps; not where the divisor changes at the border."""
    nodes = [
        node("AveragePool", ["x"], ["a"], kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", ["x"], ["b"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        node("GlobalAveragePool", ["x"], ["c"]),
        node("ReduceMean", ["x", "axes"], ["d"], keepdims=1),
        node("AveragePool", ["x"], ["e"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("ReduceMean", ["x", "one"], ["f"], keepdims=1),
    ]
    axes = {"axes": np.array([-2, -1]), "one": np.array([1])}
    model = model_of(nodes, list("abcdef"), [2, 4, 6, 8], axes)
    assert unchanged(model, pools_as_convs, [2, 4, 6, 8]) == 4
    assert kinds(model) == {"Conv": 4, "AveragePool": 1, "ReduceMean": 1}


def test_what_depends_on_no_input_is_computed_once() -> None:
    """A chain of constants goes; repeating it at the end stays, and so does what reads the input's size."""
    nodes = [
        node("MatMul", ["m", "m"], ["mm"]),
        node("Sigmoid", ["mm"], ["s"]),
        node("Expand", ["s", "size"], ["wide"]),
        node("Add", ["x", "wide"], ["y"]),
        node("Shape", ["x"], ["shape"]),
        node("Cast", ["shape"], ["z"], to=1),
    ]
    model = model_of(nodes, ["y", "z"], [2, 3, 3], {"m": weight(3, 3), "size": np.array([2, 3, 3])})
    assert unchanged(model, fold_constants, [2, 3, 3]) == 2
    assert kinds(model) == {"Expand": 1, "Add": 1, "Shape": 1, "Cast": 1}
    assert {item.name for item in model.graph.initializer} == {"s", "size"}
    again = model_of(nodes, ["y", "z"], [2, 3, 3], {"m": weight(3, 3), "size": np.array([2, 3, 3])})
    assert fold_constants(again, limit_bytes=8) == 0 and kinds(again)["MatMul"] == 1


def test_operations_are_counted() -> None:
    nodes = [
        conv("a", strides=[2, 2]),
        node("Flatten", ["a"], ["flat"]),
        node("Gemm", ["flat", "w"], ["y"], transB=1),
    ]
    parts = {**constants({"a": 6}, ("a",)), "w": weight(10, 6 * 4 * 5)}
    model = model_of(nodes, ["y"], [2, 4, 8, 10], parts)
    assert flops(model) == 2 * (2 * 6 * 4 * 5) * (4 * 9) + 2 * (2 * 10) * 120
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    with pytest.raises(ValueError, match="not all known"):
        flops(model)
