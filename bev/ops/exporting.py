"""Whether a graph is being recorded: one that must run elsewhere, and in which form, or one whose compiler fuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

PLUGIN_DOMAIN = "bev"  # ONNX domain and TensorRT namespace of nodes that need a plugin

_plugins: ContextVar[bool] = ContextVar("plugins", default=False)


def is_exporting() -> bool:
    """True inside ``torch.export`` and ``torch.jit.trace``, where operators take their export form."""
    # torch 2.6 cannot tell export from compile: compiled graphs take the export form there, which is only slower.
    recording = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return torch.jit.is_tracing() or bool(recording())


def is_recording() -> bool:
    """True inside ``torch.compile`` too: kernels that only fuse what a compiler also fuses stay out of its graphs."""
    return torch.jit.is_tracing() or bool(torch.compiler.is_compiling())


@contextmanager
def exporting_plugins() -> Iterator[None]:
    """Operators that have a TensorRT plugin are recorded as one node of the domain ``bev`` in here."""
    token = _plugins.set(True)
    try:
        yield
    finally:
        _plugins.reset(token)


def plugins_asked() -> bool:
    """Whether this is inside :func:`exporting_plugins`, recorded or not."""
    return _plugins.get()


def wants_plugins() -> bool:
    """Whether a graph is being recorded in which operators with a plugin are to be one node."""
    return _plugins.get() and is_exporting()


def plugin_node(
    name: str,
    inputs: Sequence[Tensor],
    attributes: Mapping[str, int],
    shape: Sequence[int | torch.SymInt],
    like: Tensor,
) -> Tensor:
    """One ONNX node of the domain ``bev`` that TensorRT resolves to the plugin ``bev::name`` (bev/deploy/plugins).

    Args:
        name: of the plugin.
        inputs: of the node, in the plugin's order.
        attributes: of the plugin.
        shape: of the output, whose dtype and device are those of ``like``.
    """
    settings: dict[str, Any] = {"plugin_namespace": PLUGIN_DOMAIN, "aot": 1, **attributes}
    return torch.onnx.ops.symbolic(
        f"{PLUGIN_DOMAIN}::{name}", list(inputs), attrs=settings, dtype=like.dtype, shape=list(shape), version=1
    )
