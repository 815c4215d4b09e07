"""What the benchmark needs to know of an operator at one size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Inputs = Sequence[Any]
Form = Callable[..., Any]
# (device, dtype, quick) -> arguments of both forms, random but the same in every call. ``quick`` asks for a size that
# Triton's interpreter manages in a second. Tensors to be differentiated have ``requires_grad``.
Build = Callable[[torch.device, torch.dtype, bool], Inputs]

FLOATS = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Case:
    """One operator at one size.

    Attributes:
        name: of the operator.
        size: where the size comes from, and the size.
        inputs: builds the arguments.
        reference: plain torch form; runs eagerly and compiled.
        ours: the public operator, which takes its Triton kernel on a CUDA device; the same arguments.
        bytes_moved: of the arguments: the fewest bytes that the forward pass must read and write; 0: not told.
        flops: of the arguments: floating-point operations of the forward pass; 0: not told.
        dtypes: that it is measured in.
        exact: whether errors are told against the reference in float64; else against the reference in the same dtype
            (results that hang on an order of scores).
    """

    name: str
    size: str
    inputs: Build
    reference: Form
    ours: Form
    bytes_moved: Callable[..., int] = lambda *inputs: 0
    flops: Callable[..., int] = lambda *inputs: 0
    dtypes: Sequence[torch.dtype] = FLOATS
    exact: bool = True


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor of nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)


def size_bytes(*values: Any) -> int:
    """Bytes of all tensors: ``bytes_moved`` of an operator that reads its arguments and writes as much as this."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors(values))


def convert(value: Any, change: Callable[[Tensor], Tensor], known: dict[int, Tensor] | None = None) -> Any:
    """The same nesting with every tensor changed; one tensor in two places stays one: forms look at that."""
    known = {} if known is None else known
    if isinstance(value, Tensor):
        return known.setdefault(id(value), change(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(convert(part, change, known) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(convert(part, change, known) for part in value)
    return value
