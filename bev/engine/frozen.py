"""Batch norms that training leaves alone: for small batches and pretrained parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bev.registry import ConfigError


class _Frozen:
    """Stays in evaluation mode whatever its parents are told."""

    def train(self, mode: bool = True) -> Any:
        return super().train(False)  # type: ignore[misc]


def _frozen(kind: type) -> type:
    return type(f"Frozen{kind.__name__}", (_Frozen, kind), {})


def freeze_norms(model: nn.Module, parts: Sequence[str]) -> int:
    """Freeze statistics, scale and shift of the batch norms of some parts, in place; parameter names stay.

    Args:
        model: a detector.
        parts: names of modules, e.g. ``("backbone",)``; ``""`` is the whole model.

    Returns:
        How many were frozen.

    Raises:
        ConfigError: no such part, or one without batch norms.
    """
    modules = dict(model.named_modules())
    total = 0
    for part in [parts] if isinstance(parts, str) else parts:
        if part not in modules:
            children = ", ".join(name for name, _ in model.named_children())
            raise ConfigError(f"config key 'frozen_norms' names {part!r}; parts of {type(model).__name__}: {children}")
        norms = [m for m in modules[part].modules() if isinstance(m, _BatchNorm)]
        if not norms:
            raise ConfigError(f"config key 'frozen_norms': {part!r} has no batch norms")
        for norm in norms:
            if not isinstance(norm, _Frozen):
                norm.__class__ = _frozen(type(norm))
                norm.requires_grad_(False).train()
                total += 1
    return total
