"""Kernels as PTX without a GPU, in the form in which TensorRT launches them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bev._optional import require
from bev.deploy.export import ExportError
from bev.deploy.plugins.specs import Launch

# Triton's names of TensorRT's types.
TRITON_TYPES = {"FP32": "fp32", "FP16": "fp16", "BF16": "bf16", "INT32": "i32", "INT64": "i64"}
_SCRATCH = 2  # pointers that Triton appends to a kernel's parameters: global and profiling scratch memory
_MOST_SHARED_BYTES = 48 << 10  # that a launch gets without asking the driver for more
_PTX_VERSION = 84  # of CUDA 12.4: Triton's newest would ask for a newer driver than TensorRT does
_ALIGNED = [["tt.divisibility", 16]]  # of pointers, bytes: TensorRT's buffers are


@dataclass(frozen=True)
class Ptx:
    """A compiled kernel.

    Attributes:
        name: of its entry.
        text: PTX.
        threads: of a program.
        shared_bytes: shared memory of a program.
        parameters: pointers and integers that it takes, in order: inputs, sizes, output.
    """

    name: str
    text: str
    threads: int
    shared_bytes: int
    parameters: int


def compile_ptx(launch: Launch, types: Sequence[str], capability: int) -> Ptx:
    """Compile a plugin's kernel.

    Args:
        launch: of the plugin.
        types: TensorRT's names of the types of its inputs and of its output.
        capability: 80 for sm_80, ... PTX below 90 also runs on later GPUs, that of 90 only on Hopper.

    Raises:
        ExportError: the kernel needs scratch memory or more shared memory than a plain launch has, which TensorRT gives
            no plugin; or its parameters are others than the plugin's.
        ImportError: Triton is not installed.
    """
    triton = require("triton", extra="triton")
    backends = require("triton.backends.compiler", extra="triton")
    kinds = [f"*{TRITON_TYPES[kind]}" for kind in types]
    arguments = (*launch.inputs(kinds[:-1]), *_integers(launch.sizes), kinds[-1])
    signature = dict(zip(launch.kernel.arg_names, arguments)) | dict.fromkeys(launch.constants, "constexpr")
    aligned = {place: _ALIGNED for place in _pointers(arguments)}
    source = triton.compiler.ASTSource(
        fn=launch.kernel, signature=signature, constexprs=launch.constants, attrs=aligned
    )
    target, options = backends.GPUTarget("cuda", capability, 32), {"ptx_version": _PTX_VERSION}
    compiled = triton.compile(source, target=target, options=options)
    count = len(types) + len(flat(launch.sizes))
    text = without_scratch(compiled.asm["ptx"], compiled.metadata.name, count)
    metadata = compiled.metadata
    if metadata.shared > _MOST_SHARED_BYTES:
        raise ExportError(f"kernel {metadata.name} needs {metadata.shared} bytes of shared memory, a launch has 49152")
    return Ptx(metadata.name, text, metadata.num_warps * 32, metadata.shared, count)


def flat(values: Any) -> list[Any]:
    """Leaves of nested tuples, in order."""
    return [leaf for value in values for leaf in flat(value)] if isinstance(values, tuple) else [values]


def _integers(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_integers(size) if isinstance(size, tuple) else "i32" for size in sizes)


def _pointers(arguments: tuple[Any, ...], path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Places of the pointers among nested arguments."""
    found: list[tuple[int, ...]] = []
    for index, argument in enumerate(arguments):
        place = (*path, index)
        found += _pointers(argument, place) if isinstance(argument, tuple) else [place] * argument.startswith("*")
    return found


def without_scratch(ptx: str, name: str, count: int) -> str:
    """PTX whose entry takes ``count`` parameters: without Triton's own at the end, which the launch would not fill.

    Raises:
        ExportError: the entry reads them, or has not ``count`` and these.
    """
    head = re.search(rf"\.entry {re.escape(name)}\((.*?)\n\)", ptx, re.DOTALL)
    parameters = [] if head is None else re.findall(rf"{re.escape(name)}_param_\d+", head.group(1))
    if head is None or len(parameters) != count + _SCRATCH:
        raise ExportError(
            f"kernel {name} has {len(parameters)} parameters, expected {count} and {_SCRATCH} of Triton's"
        )
    body = ptx[head.end() :]
    for parameter in parameters[count:]:
        if re.search(rf"\b{parameter}\b", body):
            raise ExportError(f"kernel {name} needs scratch memory, which TensorRT gives no plugin")
    lines = [line for line in head.group(1).split(",") if line.strip()][:count]
    return ptx[: head.start(1)] + ",".join(lines) + ptx[head.end(1) :]
