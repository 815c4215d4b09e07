"""A graph in float64: the ruler that tells rounding of a network from a fault of its export.

Two float32 programs that add the same numbers in another order differ. Where both are as far from float64 as from each
other, the network itself magnifies rounding; where one is much further away than the other, it is at fault.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from bev.deploy.graph import DetectorGraph


class _Widened(TorchFunctionMode):
    """Every request for float32 is one for float64."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is Tensor.float:
            return args[0].double()
        args, kwargs = tree_map(_wide, (args, dict(kwargs or {})))
        return func(*args, **kwargs)


def _wide(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


@contextmanager
def widened() -> Iterator[None]:
    """Within, new floating-point tensors and casts to float32 are float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Widened():
            yield
    finally:
        torch.set_default_dtype(before)


def widen(module: nn.Module) -> nn.Module:
    """A copy of a module with float64 parameters and buffers; the values are those of float32."""
    return copy.deepcopy(module).double()


@torch.no_grad()
def float64_outputs(graph: DetectorGraph) -> dict[str, Tensor]:
    """Outputs of a graph's example computed in float64 from the same weights; whole numbers and bool as they are."""
    wide = widen(graph)
    inputs = [value.double() if value.is_floating_point() else value for value in graph.example.values()]
    with widened():
        return dict(zip(graph.facts.outputs, wide(*inputs)))
