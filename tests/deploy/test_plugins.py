"""TensorRT plugins without TensorRT: nodes of exported graphs, shapes, types, PTX, and the definitions' rules.

The kernels' values by the plugins' own launches are in tests/ops/triton/fused_kernels.py. Nothing here runs TensorRT:
``_Library`` below stands in for ``tensorrt.plugin`` and keeps the rules of its published Python sources.
"""

from __future__ import annotations

import inspect
import os
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bev.deploy import ExportError
from bev.deploy.export import check_operators
from bev.deploy.plugins import PLUGINS, compile_ptx, register_plugins
from bev.deploy.plugins.definitions import define
from bev.deploy.plugins.ptx import flat, without_scratch
from bev.ops.bev_pool import PoolRuns, bev_pool, plan_pool
from bev.ops.deform_conv import deform_conv2d
from bev.ops.exporting import exporting_plugins
from bev.ops.folded_deformable_attention import folded_deformable_attention
from bev.ops.projected_sampling import projected_sampling

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
ONE = dict.fromkeys(("stride_y", "stride_x", "padding_y", "padding_x", "dilation_y", "dilation_x"), 1)
CONV = ((2, 16, 5, 7), (2, 18, 5, 7), (2, 9, 5, 7), (12, 16, 3, 3))
# Shapes of the inputs, attributes, the output's shape, the kernel's sizes, the grid.
CASES: dict[str, tuple[Any, ...]] = {
    "deformable_attention": (
        ((2, 30, 4, 8), (2, 3), (2, 9, 1, 2, 2), (2, 9, 4, 2, 4, 2), (2, 9, 4, 2, 4)),
        {},
        (2, 9, 32),
        (72, 9, 960, 576, 64, 16, 288, 32, 8),
        (5, 1, 1),
    ),
    "bev_pool": (((80, 5), (80, 70), (150,), (31,)), {"rows": 40}, (60, 70), (40, 30), (30, 2, 2)),
    "camera_sampling_2": (
        ((2, 3, 8, 6, 9), (2, 3, 8, 3, 5), (2, 7, 1, 3), (2, 3, 4, 4), (2, 7, 3, 1, 2)),
        {"image_height": 48, "image_width": 72},
        (2, 7, 8),
        (7, 48, 72, 6, 9, 1296, 432, 54, 9, 1, 3, 5, 360, 120, 15, 5, 1),
        (14, 1, 1),
    ),
    "modulated_deform_conv": (CONV, ONE, (2, 12, 5, 7), (12, 5, 7, 5, 7, *(1,) * 6), (2, 1, 2)),
    "deform_conv": ((*CONV[:2], CONV[3]), ONE, (2, 12, 5, 7), (12, 5, 7, 5, 7, *(1,) * 6), (2, 1, 2)),
}


class _Size:
    """A size as TensorRT's symbolic ones: arithmetic with ints on its right, a number only where it is constant."""

    def __init__(self, value: int, is_constant: bool = True) -> None:
        self.value, self.is_constant = value, is_constant

    def _with(self, other: Any, operation: Callable[[int, int], int]) -> _Size:
        number = other.value if isinstance(other, _Size) else other
        assert isinstance(number, int)
        fixed = self.is_constant and getattr(other, "is_constant", True)
        return _Size(operation(self.value, number), fixed)

    def __add__(self, other: Any) -> _Size:
        return self._with(other, int.__add__)

    def __sub__(self, other: Any) -> _Size:
        return self._with(other, int.__sub__)

    def __mul__(self, other: Any) -> _Size:
        return self._with(other, int.__mul__)

    def __floordiv__(self, other: Any) -> _Size:
        return self._with(other, int.__floordiv__)

    def constant_value(self) -> int:
        assert self.is_constant
        return self.value


def _number(size: Any) -> int:
    return size.value if isinstance(size, _Size) else size


@pytest.mark.parametrize("name", CASES)
def test_shapes_and_types(name: str) -> None:
    spec, (shapes, attributes, expected, _, _) = PLUGINS[name], CASES[name]
    assert spec.output_shape(shapes, attributes) == expected
    symbolic = [tuple(_Size(size, False) for size in shape) for shape in shapes]
    assert tuple(map(_number, spec.output_shape(symbolic, attributes))) == expected
    assert len(spec.types) == len(spec.inputs) + 1 == len(shapes) + 1
    assert tuple(attributes) == spec.attributes
    choices = {len(kind.split("|")) for kind in spec.types} - {1}
    assert choices <= {3}, "choices that go together must be as many"
    assert spec.types[spec.like] == spec.types[-1]


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_launches(name: str) -> None:
    """The numbers a kernel is launched with, for ints and for a batch that varies."""
    spec, (shapes, attributes, _, sizes, grid) = PLUGINS[name], CASES[name]
    launch = spec.launch(shapes, attributes)
    assert tuple(flat(launch.sizes)) == sizes and launch.grid == grid
    symbolic = [tuple(map(_Size, shape)) for shape in shapes]
    again = spec.launch(symbolic, attributes)
    assert tuple(map(_number, flat(again.sizes))) == sizes and tuple(map(_number, again.grid)) == grid
    assert again.constants == launch.constants
    symbolic = [tuple(_Size(size, False) for size in shape) for shape in shapes]
    with pytest.raises(ValueError, match="must not vary in a network with this plugin"):
        spec.launch(symbolic, attributes)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(("name", "capability", "precision"), [
    ("deformable_attention", 90, 1),
    ("bev_pool", 80, 0),
    ("camera_sampling_2", 80, 1),
    ("modulated_deform_conv", 90, 1),
])
def test_ptx_assembles(name: str, capability: int, precision: int, tmp_path: Path) -> None:
    """PTX without Triton's own parameters is still PTX, and takes what the plugin gives."""
    import triton

    spec, (shapes, attributes, _, sizes, _) = PLUGINS[name], CASES[name]
    types = [kind.split("|")[precision if "|" in kind else 0] for kind in spec.types]
    ptx = compile_ptx(spec.launch(shapes, attributes), types, capability)
    assert ptx.parameters == len(spec.inputs) + len(sizes) + 1
    assert f"{ptx.name}_param_{ptx.parameters}" not in ptx.text
    (tmp_path / "kernel.ptx").write_text(ptx.text)
    target = f"sm_{capability}a" if capability == 90 else f"sm_{capability}"
    command = [triton.knobs.nvidia.ptxas.path, "-arch", target, "kernel.ptx", "-o", "kernel.cubin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kernel.cubin").stat().st_size > 1000


def test_scratch_memory_is_refused() -> None:
    """A kernel that reads what TensorRT would not give must not reach an engine."""
    parameters = ",".join(f"\n\t.param .u64 k_param_{index}" for index in range(4))
    entry = f".entry k({parameters}\n)"
    stripped = without_scratch(entry + "\n{ ld.param [k_param_1]; }", "k", 2)
    assert "k_param_1\n)" in stripped and "k_param_2" not in stripped
    with pytest.raises(ExportError, match="scratch memory"):
        without_scratch(entry + "\n{ ld.param [k_param_3]; }", "k", 2)
    with pytest.raises(ExportError, match="has 4 parameters, expected 3 and 2"):
        without_scratch(entry + "\n{ }", "k", 3)


class _Everything(nn.Module):
    """Every operator that has a plugin, once; deformable convolution in both versions."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 16, 3, 3))
        plan = plan_pool(torch.randint(0, 30, (40, 5)), torch.rand(40, 5) < 0.7, 30)
        self.register_buffer("order", plan.order.int())
        self.register_buffer("offsets", plan.offsets.int())

    def forward(self, *x: Tensor) -> tuple[Tensor, ...]:
        value, reference, moved, logits, depth, rows, first, second, points, matrices, weights, maps, offset, mask = x
        return (
            folded_deformable_attention(value, [(5, 4), (2, 5)], reference, moved, logits),
            bev_pool(depth, rows, PoolRuns(self.order, self.offsets, 40)),
            projected_sampling([first, second], points, matrices, weights, (48, 72)),
            deform_conv2d(maps, offset, mask, self.weight, padding=1),
            deform_conv2d(maps, offset, None, self.weight, padding=1),
        )

    @staticmethod
    def inputs() -> tuple[Tensor, ...]:
        attention, pool = CASES["deformable_attention"][0], CASES["bev_pool"][0]
        sampling = CASES["camera_sampling_2"][0]
        shapes = (attention[0], *attention[2:], *pool[:2], *sampling, *CONV[:3])
        return tuple(torch.rand(shape) for shape in shapes)


def test_each_call_is_one_node() -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    model, inputs = _Everything().eval(), _Everything.inputs()
    with torch.no_grad(), exporting_plugins():
        tried = model(*inputs)  # not recorded: the operators themselves
        program = torch.onnx.export(model, inputs, dynamo=True, opset_version=18, verbose=False)
    assert program is not None
    proto = onnx.shape_inference.infer_shapes(program.model_proto)
    found = {node.op_type: node for node in proto.graph.node if node.domain == "bev"}
    kinds = [node.op_type for node in proto.graph.node if node.domain == "bev"]
    assert sorted(kinds) == sorted(CASES)
    assert {"GridSample", "ScatterND", "GatherElements", "Softmax"}.isdisjoint(n.op_type for n in proto.graph.node)
    results = {value.name: value.type.tensor_type for value in proto.graph.output}
    for name, out in zip(CASES, tried):
        shapes, attributes, expected, _, _ = CASES[name]
        node, settings = found[name], {a.name: onnx.helper.get_attribute_value(a) for a in found[name].attribute}
        assert len(node.input) == len(shapes)
        assert {key: settings[key] for key in attributes} == attributes
        assert settings["plugin_namespace"] == b"bev" and settings["aot"] == 1
        kind = results[node.output[0]]
        assert tuple(d.dim_value for d in kind.shape.dim) == expected == tuple(out.shape)
        assert kind.elem_type == onnx.TensorProto.FLOAT
    assert check_operators(proto, plugins=True) == []
    assert len(check_operators(proto)) == 5


class _Desc:
    """A tensor's description."""

    def __init__(self, shape: tuple[Any, ...], dtype: str) -> None:
        self.shape_expr, self.dtype = shape, SimpleNamespace(name=dtype)


class _Data:
    """A tensor with data."""


class _Symbol:
    def __init__(self, value: Any) -> None:
        self.value = value


class _Symbols(list):  # type: ignore[type-arg]
    @classmethod
    def from_tuple(cls, values: list[_Symbol]) -> _Symbols:
        return cls(values)


class _Combination:
    def __init__(self, types: str, layouts: str) -> None:
        self.types, self.layouts = types.split(", "), layouts


class _Library:
    """Stands in for ``tensorrt.plugin``: takes definitions, and refuses what the real one refuses."""

    TensorDesc, Tensor, SymInt32, SymIntExprs, AutoTuneCombination = _Desc, _Data, _Symbol, _Symbols, _Combination

    class KernelLaunchParams:
        grid_x = grid_y = grid_z = block_x = shared_mem = 0

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Callable[..., Any]]] = {}

    @staticmethod
    def from_shape_expr(shape: tuple[Any, ...], dtype: Any) -> _Desc:
        return _Desc(shape, dtype.name)

    def register(self, name: str) -> Callable[..., Any]:
        def take(function: Callable[..., Any]) -> Callable[..., Any]:
            signature = inspect.signature(function)
            kinds = [p.annotation for p in signature.parameters.values()]
            tensors = [issubclass(kind, _Desc) for kind in kinds]  # a class, not a string
            assert tensors == sorted(tensors, reverse=True) and tensors[0], "tensors come first"
            assert set(kinds[sum(tensors) :]) <= {int, float, bytes, bool, str}
            assert all(p.default is inspect.Parameter.empty for p in signature.parameters.values())
            assert not {"outputs", "stream", "tactic"} & set(signature.parameters)
            assert issubclass(signature.return_annotation, _Desc)
            self.known[name] = {"register": function}
            return function

        return take

    def _follow(self, name: str, kind: str, tail: list[str], attributes: bool) -> Callable[..., Any]:
        def take(function: Callable[..., Any]) -> Callable[..., Any]:
            first = inspect.signature(self.known[name]["register"]).parameters
            kept = [p for p, v in first.items() if attributes or v.annotation is not int]
            assert list(inspect.signature(function).parameters) == [*kept, *tail]
            self.known[name][kind] = function
            return function

        return take

    def autotune(self, name: str) -> Callable[..., Any]:
        return self._follow(name, "autotune", ["outputs"], attributes=False)

    def impl(self, name: str) -> Callable[..., Any]:
        return self._follow(name, "impl", ["outputs", "stream"], attributes=True)

    def aot_impl(self, name: str) -> Callable[..., Any]:
        return self._follow(name, "aot_impl", ["outputs", "tactic"], attributes=True)


@needs_triton
def test_definitions_keep_the_rules_of_the_interface() -> None:
    library = _Library()
    names = [define(library, spec, 80) for spec in PLUGINS.values()]
    assert set(names) == {f"bev::{name}" for name in PLUGINS} == set(library.known)
    shapes, attributes, expected, sizes, grid = CASES["bev_pool"]
    parts = library.known["bev::bev_pool"]
    kinds = ("HALF", "HALF", "INT32", "INT32")
    described = [_Desc(tuple(map(_Size, shape)), kind) for shape, kind in zip(shapes, kinds)]
    out = parts["register"](*described, **attributes)
    assert tuple(map(_number, out.shape_expr)) == expected and out.dtype.name == "HALF"
    (combination,) = parts["autotune"](*described, [out])
    assert len(combination.types) == 5 and combination.layouts == "LINEAR"
    name, text, params, symbols = parts["aot_impl"](*described, *attributes.values(), [out], 0)
    assert name.decode() in text.decode() and ".target sm_80" in text.decode()
    assert tuple(_number(x) for x in (params.grid_x, params.grid_y, params.grid_z)) == grid and params.block_x == 128
    assert tuple(_number(symbol.value) for symbol in symbols) == sizes


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_without_tensorrt_one_line_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"bevstack\[tensorrt\]"):
        register_plugins()


@pytest.mark.gpu
@pytest.mark.skipif(find_spec("tensorrt") is None or not torch.cuda.is_available(), reason="needs TensorRT and CUDA")
def test_registers_with_tensorrt() -> None:
    assert len(register_plugins()) == len(PLUGINS)


@pytest.mark.skipif(not os.environ.get("BEV_EXPORT_ALL"), reason="takes long: set BEV_EXPORT_ALL=1")
@pytest.mark.parametrize(("family", "kinds"), [
    ("bevdet", {"bev_pool"}),
    ("detr3d", {"camera_sampling_2"}),
    ("bevformer", {"deformable_attention"}),
])
def test_detectors_with_plugins(family: str, kinds: set[str], tmp_path: Path) -> None:
    from bev.deploy import write_onnx
    from tests.deploy import small

    onnx = pytest.importorskip("onnx")
    graph = getattr(small, family)().graph(plugins=True)
    write_onnx(graph, tmp_path / "graph.onnx")
    model = onnx.load(str(tmp_path / "graph.onnx"))
    assert {node.op_type for node in model.graph.node if node.domain == "bev"} == kinds
