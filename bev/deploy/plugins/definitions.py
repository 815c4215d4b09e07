"""The plugins as TensorRT's own Python definitions (``tensorrt.plugin``, TensorRT 10.7 and later).

Not run in this project's tests, which have no TensorRT: they call :func:`define` with a stand-in that keeps the rules
of the published interface. Everything that can be decided without TensorRT is in ``specs`` and ``ptx``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Union

from bev._optional import require
from bev.deploy.plugins.ptx import compile_ptx, flat
from bev.deploy.plugins.specs import PLUGINS, PluginSpec
from bev.ops.exporting import PLUGIN_DOMAIN

# TensorRT's names of data types in Python, and those that describe combinations.
_NAMES = {"FLOAT": "FP32", "HALF": "FP16", "BF16": "BF16", "INT32": "INT32", "INT64": "INT64"}


def register_plugins(capability: int = 80) -> list[str]:
    """Make every plugin known to TensorRT in this process, before a network with its nodes is parsed.

    Args:
        capability: of the GPUs that the kernels are compiled for; see :func:`bev.deploy.plugins.ptx.compile_ptx`.

    Returns:
        The plugins' names.

    Raises:
        ImportError: TensorRT (10.7 or later, with its libraries) or Triton is not installed.
    """
    require("tensorrt", extra="tensorrt")
    require("triton", extra="triton")
    library = require("tensorrt.plugin", extra="tensorrt")
    return [define(library, spec, capability) for spec in PLUGINS.values()]


def define(library: Any, spec: PluginSpec, capability: int) -> str:
    """Register one plugin with ``tensorrt.plugin``: description, types, the Python and the ahead-of-time form."""
    name = f"{PLUGIN_DOMAIN}::{spec.name}"
    described = dict.fromkeys(spec.inputs, library.TensorDesc)
    held = dict.fromkeys(spec.inputs, library.Tensor)
    numbers = dict.fromkeys(spec.attributes, int)
    outputs = {"outputs": tuple[library.TensorDesc]}
    baked = tuple[Union[str, bytes], Union[str, bytes], library.KernelLaunchParams, library.SymIntExprs]

    library.register(name)(_signed(_describe(library, spec), {**described, **numbers}, library.TensorDesc))
    library.autotune(name)(
        _signed(_combine(library, spec), {**described, **outputs}, list[library.AutoTuneCombination])
    )
    library.impl(name)(
        _signed(_compute(spec), {**held, **numbers, "outputs": tuple[library.Tensor], "stream": int}, None)
    )
    library.aot_impl(name)(
        _signed(_bake(library, spec, capability), {**described, **numbers, **outputs, "tactic": int}, baked)
    )
    return name


def _signed(function: Callable[..., Any], arguments: dict[str, Any], result: Any) -> Callable[..., Any]:
    """A function that says it has the given arguments: TensorRT reads names and types from the signature."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, annotation=value) for name, value in arguments.items()]
    function.__signature__ = inspect.Signature(parameters, return_annotation=result)  # type: ignore[attr-defined]
    return function


def _split(
    spec: PluginSpec, given: Sequence[Any], named: dict[str, Any]
) -> tuple[list[Any], dict[str, int], list[Any]]:
    """Tensors, attributes and what follows them, however TensorRT passes the attributes."""
    count = len(spec.inputs)
    rest = list(given[count:])
    attributes = {name: int(named[name] if name in named else rest.pop(0)) for name in spec.attributes}
    return list(given[:count]), attributes, rest


def _describe(library: Any, spec: PluginSpec) -> Callable[..., Any]:
    def describe(*given: Any, **named: Any) -> Any:
        inputs, attributes, _ = _split(spec, given, named)
        shape = spec.output_shape([desc.shape_expr for desc in inputs], attributes)
        return library.from_shape_expr(tuple(shape), dtype=inputs[spec.like].dtype)

    return describe


def _combine(library: Any, spec: PluginSpec) -> Callable[..., Any]:
    def combine(*given: Any, **named: Any) -> Any:
        """The only form the kernel takes: dense tensors of the types it was written for."""
        return [library.AutoTuneCombination(", ".join(spec.types), "LINEAR")]

    return combine


def _compute(spec: PluginSpec) -> Callable[..., None]:
    def compute(*given: Any, **named: Any) -> None:
        """Run the kernel in TensorRT's stream. Arguments come by name or by place, as its versions differ in that."""
        import torch

        inputs, attributes, rest = _split(spec, given, named)
        outputs = named.get("outputs") or rest[0]
        stream = named["stream"] if "stream" in named else rest[1]
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            tensors = [torch.as_tensor(tensor, device="cuda") for tensor in inputs]
            run(spec, tensors, attributes, torch.as_tensor(outputs[0], device="cuda"))

    return compute


def run(spec: PluginSpec, tensors: Sequence[Any], attributes: dict[str, int], out: Any) -> None:
    """Launch a plugin's kernel on torch tensors, as TensorRT would: dense ones, by the plugin's own arithmetic."""
    launch = spec.launch([tuple(tensor.shape) for tensor in tensors], attributes)
    if out.numel():
        launch.kernel[launch.grid](*launch.inputs(tensors), *launch.sizes, out, **launch.constants)


def _bake(library: Any, spec: PluginSpec, capability: int) -> Callable[..., Any]:
    def bake(*given: Any, **named: Any) -> Any:
        """Name and PTX of the kernel, how it is launched, and its sizes, for an engine that needs no Python."""
        inputs, attributes, rest = _split(spec, given, named)
        outputs = named["outputs"] if "outputs" in named else rest[0]
        launch = spec.launch([desc.shape_expr for desc in inputs], attributes)
        types = [_NAMES[desc.dtype.name] for desc in (*inputs, outputs[0])]
        kernel = compile_ptx(launch, types, capability)
        params = library.KernelLaunchParams()
        params.grid_x, params.grid_y, params.grid_z = launch.grid
        params.block_x, params.shared_mem = kernel.threads, kernel.shared_bytes
        sizes = library.SymIntExprs.from_tuple([library.SymInt32(size) for size in flat(launch.sizes)])
        return kernel.name.encode(), kernel.text.encode(), params, sizes

    return bake
