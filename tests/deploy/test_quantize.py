"""Fewer bits: what keeps float32, where casts and QDQ pairs stand, how scales are chosen, what layers cost, budgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from bev.deploy.export import check_operators  # noqa: E402
from bev.deploy.facts import METADATA, GraphFacts, describe  # noqa: E402
from bev.deploy.quantize import (  # noqa: E402
    Network,
    OutputError,
    Quantized,
    Recipe,
    WholeInteger,
    equalize,
    mixed_graph,
    quantize_graph,
    sensitivities,
    to_half,
    within_drop,
    within_size,
    write_sensitivities,
)
from bev.deploy.quantize.equalize import find_pairs  # noqa: E402
from bev.deploy.quantize.network import FLOAT, HALF, weights_bytes  # noqa: E402
from bev.deploy.quantize.ranges import METHODS, extremes, magnitudes, run, session, thresholds  # noqa: E402
from bev.deploy.tensorrt_rtx import build_engine  # noqa: E402
from tests.deploy import hand  # noqa: E402

FRAMES = hand.frames()
COORDINATES = {"offset", "shift4", "shift", "place", "inside", "whole", "row", "share"}


@pytest.fixture(scope="module")
def model() -> Any:
    return hand.graph()


@pytest.fixture(scope="module")
def quantized(model: Any) -> Quantized:
    return Quantized(model, Recipe(half_scales=True), FRAMES)


def outputs(graph: Any, frame: int = 0, names: tuple[str, ...] = ("score", "next_map")) -> dict[str, np.ndarray]:
    return run(session(graph), FRAMES[frame], names)


def types_of(graph: Any) -> dict[str, int]:
    return Network(graph).types


def by_name(graph: Any) -> dict[str, Any]:
    return {node.name: node for node in graph.graph.node}


# What keeps float32 ---------------------------------------------------------------------------------------------------


def test_the_rules_find_geometry_coordinates_and_decoding(model: Any) -> None:
    network = Network(model)
    reasons = {name.removeprefix("node_"): why for name, why in network.protected.items()}
    assert {n for n, why in reasons.items() if why in ("coordinates", "geometry")} == COORDINATES
    assert reasons["score"] == "post-processing" and {reasons["floats"], reasons["normal"]} == {"preparation"}
    assert reasons["soft"] == reasons["pooled"] == "sensitive operator"
    assert set(reasons) == COORDINATES | {"score", "floats", "normal", "soft", "pooled"}
    assert [layer.name for layer in network.layers()] == ["stem", "block.one", "block.two", "head.cls"]
    assert network.residual_adds() == ["node_next_map"]
    assert network.first_layers() == {"node_a"} and network.last_layers() == {"node_offset", "node_cls"}
    assert network.boundary() == ["next_map", "safe"]


def test_a_constant_that_half_precision_does_not_know_keeps_its_node(model: Any) -> None:
    assert "node_safe" not in Network(model).protected
    tiny = Network(hand.graph(epsilon=1e-9))
    assert tiny.protected["node_safe"] == "constant outside half precision"


# Half precision -------------------------------------------------------------------------------------------------------


def test_half_precision_is_written_into_the_graph(model: Any) -> None:
    half, told = to_half(model, magnitudes(Network(model), FRAMES))
    onnx.checker.check_model(half, full_check=True)  # strongly typed: a missing cast is an error
    types = types_of(half)
    assert not told and check_operators(half) == []
    assert all(types[name] == HALF for name in ("a", "a_relu", "c", "silu", "cls", "sampled"))
    assert all(types[name] == FLOAT for name in (*COORDINATES - {"row"}, "normal", "soft", "score", "next_map"))
    weights = {i.name: i.data_type for i in half.graph.initializer if "weight" in i.name}
    assert weights.pop("model.points.offsets.weight") == FLOAT and set(weights.values()) == {HALF}
    assert not any("stack_trace" in entry.key for node in half.graph.node for entry in node.metadata_props)
    for name, value in outputs(half).items():
        reference = outputs(model)[name]
        assert 0 < np.abs(value - reference).max() <= 4e-3 * np.abs(reference).max(), name


def test_what_overflows_keeps_float32_and_is_told(model: Any) -> None:
    large = onnx.ModelProto()
    large.CopyFrom(model)
    for item in large.graph.initializer:
        if item.name == "model.block.two.weight":
            item.CopyFrom(onnx.numpy_helper.from_array(1e5 * np.sign(onnx.numpy_helper.to_array(item)), item.name))
    sizes = magnitudes(Network(large), FRAMES)
    half, told = to_half(large, sizes)
    onnx.checker.check_model(half, full_check=True)
    assert "c reaches" in told["node_next_map"] and types_of(half)["next_map"] == FLOAT
    assert types_of(half)["b"] == HALF and np.isfinite(outputs(half)["next_map"]).all()
    assert "c reaches" in told["node_c"] and to_half(large)[1]["node_c"] == "its weights reach 1e+05"


def test_magnitudes(model: Any) -> None:
    found = magnitudes(Network(model), FRAMES, ["a_relu", "cls"])
    for name, size in found.items():
        exact = max(float(np.abs(run(probe(model, name), frame, [name])[name]).max()) for frame in FRAMES)
        assert size == pytest.approx(exact, rel=1e-5)
    with pytest.raises(ValueError, match="no frames"):
        magnitudes(Network(model), [])


def probe(model: Any, name: str) -> Any:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    copied.graph.output.append(onnx.ValueInfoProto(name=name))
    return session(copied)


# Integers -------------------------------------------------------------------------------------------------------------


def test_pairs_stand_where_tensorrt_fuses_them(quantized: Quantized) -> None:
    """On both inputs of convolutions, on both of the shortcut, nowhere behind a convolution; symmetric int8."""
    graph = quantized.graph()
    onnx.checker.check_model(graph, full_check=True)
    nodes, made = by_name(graph), {out: node for node in graph.graph.node for out in node.output}
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.graph.initializer}
    for name in ("node_a", "node_b", "node_c", "node_cls"):
        activation, weight = (made[tensor] for tensor in nodes[name].input[:2])
        assert activation.op_type == weight.op_type == "DequantizeLinear"
        assert made[activation.input[0]].op_type == "QuantizeLinear"
        integers, scale = constants[weight.input[0]], constants[weight.input[1]]
        assert integers.dtype == np.int8 and scale.shape == (len(integers),), "int8 weights, one scale a channel"
        assert np.abs(integers.astype(int)).max() == 127 and weight.attribute[0].i == 0
        assert constants[nodes[name].input[2]].dtype == np.float32, "biases are not quantised"
    scales = {constants[made[tensor].input[1]].item() for tensor in nodes["node_next_map"].input}
    assert len(scales) == 1, "one scale for both inputs of an addition"
    pairs = [node for node in graph.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert all(not constants[node.input[2]].any() for node in pairs), "zero points of 0"
    behind = [node.input[0] for node in pairs if node.op_type == "QuantizeLinear"]
    assert len(behind) == len(set(behind)), "one pair a tensor"
    assert not {"a", "b", "cls"} & set(behind), "none between a convolution and its activation"
    assert nodes["node_offset"].input[1] in constants, "the layer of the sampling points keeps float32"
    assert check_operators(graph) == []


def test_who_reads_a_quantised_tensor_in_float_reads_it_unrounded(quantized: Quantized) -> None:
    graph = quantized.graph(keep=["block.one"])
    nodes, made = by_name(graph), {out: node for node in graph.graph.node for out in node.output}
    assert nodes["node_b"].input[0] == "a_relu" and nodes["node_b"].input[1] == "model.block.one.weight"
    assert made["next_map"].op_type == "Identity", "the output of the graph is not rounded"
    assert nodes["node_gate"].input[0] == made["next_map"].input[0]
    everything = quantized.graph(keep=[layer.name for layer in quantized.layers])
    for name, value in outputs(everything).items():
        np.testing.assert_allclose(value, outputs(quantized.model)[name], rtol=1e-6)
    with pytest.raises(ValueError, match="no quantised layers"):
        quantized.graph(keep=["neck"])


def test_eight_bits_are_nearly_right_and_small(model: Any, quantized: Quantized) -> None:
    graph, error = quantized.graph(), OutputError(quantized, FRAMES)
    assert error(quantized.model) == 0 and 0 < error(graph) < 2e-3
    float_bytes = sum(layer.weight_bytes for layer in quantized.layers)
    assert weights_bytes(model) - weights_bytes(graph) > 0.5 * float_bytes


def test_layers_are_left_out_as_asked(model: Any) -> None:
    recipe = Recipe("minmax", first_layer=False, last_layers=False, keep=("block.o*",), residual_adds=False)
    found = Quantized(model, recipe, FRAMES)
    assert [layer.name for layer in found.layers] == ["block.two"]
    reasons = {name: why for name, why in found.excluded.items()}
    assert reasons["stem"] == "first layer" and reasons["head.cls"] == "last layer"
    assert reasons["block.one"] == "kept by 'block.o*'" and reasons["node_offset"] == "coordinates"
    for keep, message in ((("neck.*",), "no layer fits 'neck"), (("*",), "no layer is left")):
        with pytest.raises(ValueError, match=message):
            Quantized(model, Recipe("minmax", keep=keep), FRAMES)


def test_known_thresholds_are_used(model: Any) -> None:
    found = Quantized(model, Recipe("minmax", residual_adds=False), FRAMES, known={"stem": 2.54, "head.cls": 1.27})
    assert [layer.name for layer in found.layers] == ["stem", "head.cls"] and found.limits["normal"] == 2.54
    with pytest.raises(ValueError, match="was trained in int8"):
        Quantized(model, Recipe("minmax"), FRAMES, known={"neck": 1.0})


# Integers for onnxruntime's kernels -----------------------------------------------------------------------------------


def kernels(graph: Any, folder: Path) -> dict[str, str]:
    """What onnxruntime's optimiser makes of a graph: operator by node."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimised.onnx"), 3
    runtime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {node.name: node.op_type for node in onnx.load(str(folder / "optimised.onnx")).graph.node}


def test_layers_become_integer_kernels(model: Any, tmp_path: Path) -> None:
    """From the stem to the end of the block; the sum is an output, and what the last layer gives leaves the network."""
    found = quantize_graph(model, Recipe(), FRAMES, placement="onnxruntime")
    assert [layer.name for layer in found.layers] == ["stem", "block.one", "block.two"]
    assert "leaves the network" in found.excluded["head.cls"]
    graph = found.graph()
    onnx.checker.check_model(graph, full_check=True)
    assert check_operators(graph) == []
    ops = kernels(graph, tmp_path)
    assert sorted(ops.values()).count("QLinearConv") == 3 and "QLinearLeakyRelu" in ops.values()
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.graph.initializer}
    made = {out: node for node in graph.graph.node for out in node.output}
    for name in ("node_a", "node_b", "node_c"):
        activation, weight, bias = (made[tensor] for tensor in by_name(graph)[name].input)
        assert constants[activation.input[2]].dtype == np.uint8 and constants[weight.input[0]].dtype == np.int8
        assert constants[bias.input[0]].dtype == np.int32 and constants[weight.input[1]].shape == (8,)
    exact, given = (run(session(g), FRAMES[0], ["score", "next_map"]) for g in (model, graph))
    assert 0 < np.abs(given["next_map"] - exact["next_map"]).max() < 0.05 * np.abs(exact["next_map"]).max()
    assert OutputError(found, FRAMES)(graph) < 2e-3


def test_layers_taken_back_and_alone(model: Any, tmp_path: Path) -> None:
    found = quantize_graph(model, Recipe("minmax"), FRAMES, placement="onnxruntime")
    ops = kernels(found.graph(keep=["block.one"]), tmp_path)
    assert list(ops.values()).count("QLinearConv") == 2 and list(ops.values()).count("Conv") == 2
    assert list(kernels(found.only("block.two"), tmp_path).values()).count("QLinearConv") == 1
    rows = sensitivities(found, OutputError(found, FRAMES))
    assert len(rows) == 3 and all(row.cost > 0 for row in rows)
    for name, value in outputs(found.graph(keep=[layer.name for layer in found.layers])).items():
        np.testing.assert_allclose(value, outputs(found.model)[name], rtol=1e-6)
    with pytest.raises(ValueError, match="no quantised layers"):
        found.graph(keep=["neck"])
    with pytest.raises(ValueError, match="placement 'gpu'"):
        quantize_graph(model, Recipe(), FRAMES, placement="gpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no layer can be quantised for onnxruntime"):
        quantize_graph(model, Recipe(keep=("stem", "block.*")), FRAMES, placement="onnxruntime")


def test_what_silu_reads_has_the_range_that_matters_to_its_result(tmp_path: Path) -> None:
    graph = hand.silu_graph()
    seen = extremes(Network(graph), FRAMES, ["x", "silu"])
    assert seen["x"][0] < -16, "the planted case"
    found = quantize_graph(graph, Recipe("minmax"), FRAMES, placement="onnxruntime")
    assert isinstance(found, WholeInteger) and [layer.name for layer in found.layers] == ["one"]
    assert found.ranges["x"] == (-8.0, pytest.approx(seen["silu"][1]))
    ops = sorted(kernels(found.graph(), tmp_path).values())
    assert {"QLinearConv", "QLinearSigmoid", "QLinearMul", "Conv"} <= set(ops)
    narrow = OutputError(found, FRAMES)(found.graph())
    found.ranges["x"] = seen["x"]
    assert narrow < 0.8 * OutputError(found, FRAMES)(found.graph())


def test_products_are_integer_kernels_unless_a_bias_follows(tmp_path: Path) -> None:
    plain = quantize_graph(hand.product_graph(bias=False), Recipe(), FRAMES, placement="onnxruntime")
    assert [layer.name for layer in plain.layers] == ["one", "product"]
    assert "MatMulIntegerToFloat" in kernels(plain.graph(), tmp_path).values()
    biased = quantize_graph(hand.product_graph(bias=True), Recipe(), FRAMES, placement="onnxruntime")
    assert [layer.name for layer in biased.layers] == ["one"] and "its bias" in biased.excluded["product"]
    assert OutputError(plain, FRAMES)(plain.graph()) < 5e-4


def test_trained_thresholds_hold_there_too(model: Any) -> None:
    known = {"stem": 2.54, "block.two": 1.27}
    found = quantize_graph(model, Recipe("minmax"), FRAMES, known, "onnxruntime")
    assert isinstance(found, WholeInteger) and [layer.name for layer in found.layers] == ["stem", "block.two"]
    assert found.ranges["normal"] == (0.0, 2.54) and found.ranges["b_relu"][1] == 1.27


# Scales ---------------------------------------------------------------------------------------------------------------


class _Ramp:
    """Frames of one tensor with known magnitudes, through a graph of one node."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values.astype(np.float32)
        node = onnx.helper.make_node("Neg", ["x"], ["y"], name="n")
        kind = [onnx.helper.make_tensor_value_info(name, FLOAT, [None]) for name in "xy"]
        graph = onnx.helper.make_graph([node], "g", kind[:1], kind[1:])
        opset = [onnx.helper.make_opsetid("", 18)]
        self.network = Network(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10))

    def limit(self, method: Any, **settings: Any) -> float:
        frames = [{"x": part} for part in np.array_split(self.values, 3)]
        return thresholds(self.network, frames, ["y"], method, **settings)["y"]


def test_thresholds_of_a_known_distribution() -> None:
    """Uniform magnitudes need all of the range; ten thousand small numbers and one outlier do not."""
    uniform, spiked = _Ramp(np.linspace(-4, 4, 30_000)), np.random.default_rng(0).normal(0, 1, 30_000)
    spiked[17] = 80.0
    outlier = _Ramp(spiked)
    assert uniform.limit("minmax") == 4 and outlier.limit("minmax") == 80
    assert uniform.limit("percentile", percentile=50.0) == pytest.approx(2, abs=0.01)
    assert uniform.limit("mse") == pytest.approx(4, rel=0.02)
    for method in ("percentile", "entropy"):
        assert outlier.limit(method) < 20, method
    best = min(np.linspace(2, 80, 200), key=lambda t: rounding_error(spiked, t))
    assert rounding_error(spiked, outlier.limit("mse")) < 1.3 * rounding_error(spiked, best)
    for method in METHODS:
        assert _Ramp(np.zeros(30)).limit(method) == 0
    mistakes = (dict(method="median"), "calibration method"), (dict(method="mse", percentile=0), "percentile 0")
    for wrong, message in mistakes:
        with pytest.raises(ValueError, match=message):
            uniform.limit(**wrong)
    with pytest.raises(ValueError, match="not finite"):
        _Ramp(np.array([1.0, np.nan, 2.0])).limit("mse")


def rounding_error(values: np.ndarray, threshold: float) -> float:
    scale = threshold / 127
    return float(((np.clip(np.round(values / scale), -127, 127) * scale - values) ** 2).mean())


# Sensitivity and mixed precision --------------------------------------------------------------------------------------


def test_sensitivity_names_the_layer_that_suffers(model: Any, tmp_path: Path) -> None:
    """One channel of a layer's input a thousand times larger, its weights smaller: only that layer's int8 suffers."""
    planted = onnx.ModelProto()
    planted.CopyFrom(model)
    for item in planted.graph.initializer:
        array = onnx.numpy_helper.to_array(item).copy()
        if item.name in ("model.block.one.weight", "model.block.one.bias"):
            array[3] *= 1000
        elif item.name == "model.block.two.weight":
            array[:, 3] /= 1000
        item.CopyFrom(onnx.numpy_helper.from_array(array, item.name))
    quantized = Quantized(planted, Recipe("minmax"), FRAMES)
    rows = sensitivities(quantized, OutputError(quantized, FRAMES))
    assert rows[0].layer == "block.two" and rows[0].cost > 20 * rows[1].cost
    assert {row.layer for row in rows} == {layer.name for layer in quantized.layers}
    write_sensitivities(rows, tmp_path / "s.json")
    assert "block.two" in (tmp_path / "s.md").read_text().splitlines()[2]
    evened, pairs = equalize(planted)
    again = Quantized(evened, Recipe("minmax"), FRAMES)
    assert pairs == 1 and OutputError(again, FRAMES)(again.graph()) < 0.1 * rows[0].cost


def test_equalisation_is_exact(model: Any) -> None:
    evened, count = equalize(model)
    network = Network(model)
    found = {(pair.first, pair.second, pair.groups) for pair in find_pairs(network)}
    # The stem is read by the shortcut, too: no scale may pass.
    assert found == {("model.block.one.weight", "model.block.two.weight", 1)} and count == 1
    for frame in range(len(FRAMES)):
        for name, value in outputs(evened, frame).items():
            reference = outputs(model, frame)[name]
            assert np.abs(value - reference).max() <= 1e-5 * np.abs(reference).max()
    first, second = (Network(evened).constant(f"model.block.{n}.weight") for n in ("one", "two"))
    np.testing.assert_allclose(np.abs(first).reshape(8, -1).max(1), np.abs(second).max((0, 2, 3)), rtol=1e-3)


def test_mixed_precision_keeps_its_budgets(quantized: Quantized) -> None:
    error = OutputError(quantized, FRAMES)
    rows = sensitivities(quantized, error)
    smallest = weights_bytes(mixed_graph(quantized, ()))
    choice = within_size(quantized, rows, smallest + 200)
    assert 0 < len(choice.keep) < len(rows) and weights_bytes(choice.model) <= smallest + 200
    with pytest.raises(ValueError, match="too few"):
        within_size(quantized, rows, smallest - 1)
    onnx.checker.check_model(choice.model, full_check=True)
    types = types_of(choice.model)
    assert choice.model.opset_import[0].version == 19, "scales of half precision"
    assert types["cls"] == types["a"] == HALF and types["place"] == FLOAT and types["score"] == FLOAT
    assert error(choice.model) <= error(mixed_graph(quantized, ()))
    costs = [error(mixed_graph(quantized, [row.layer for row in rows[:n]])) for n in range(len(rows) + 1)]
    allowed = (costs[0] + costs[-1]) / 2
    enough = within_drop(quantized, rows, lambda graph: -error(graph), 0.0, allowed)
    assert enough.drop is not None and enough.drop <= allowed and 0 < len(enough.keep) < len(rows)
    assert len(within_drop(quantized, rows, lambda graph: -error(graph), 0.0, 1.0).keep) == 0
    with pytest.raises(ValueError, match="float16 alone"):
        within_drop(quantized, rows, lambda graph: -error(graph), 0.0, 1e-12)


def test_tensorrt_rtx_builds(model: Any, quantized: Quantized, tmp_path: Path) -> None:
    """Half, int8 and mixed graphs pass TensorRT's strongly typed parser and builder (no GPU is needed)."""
    pytest.importorskip("tensorrt_rtx_libs", exc_type=ImportError)
    pytest.importorskip("tensorrt_rtx_bindings", exc_type=ImportError)
    graphs = {"half": to_half(model)[0], "int8": quantized.graph(), "mixed": mixed_graph(quantized, ["block.one"])}
    for name, graph in graphs.items():
        described = describe(GraphFacts(tuple(i.name for i in graph.graph.input), (), {}, None, False), None)
        graph.metadata_props.add(key=METADATA, value=json.dumps(described))
        onnx.save(graph, tmp_path / f"{name}.onnx")
        assert build_engine(tmp_path / f"{name}.onnx", tmp_path / f"{name}.engine").stat().st_size > 1000
