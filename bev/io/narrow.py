"""Networks with fewer channels than their configuration says: the weights' own shapes tell which.

Structured pruning takes channels out of layers but leaves the network's build as it is. Its weights carry the mark
:data:`NARROWED`; without it, weights of another shape stay an error.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

NARROWED = "narrowed"


def mark_narrowed(model: nn.Module) -> None:
    """Let a model's weights say from now on that their shapes are their own."""
    model.register_buffer(NARROWED, torch.ones((), dtype=torch.uint8))


def fit_channels(model: nn.Module, weights: Mapping[str, Tensor]) -> int:
    """Give convolutions, linear layers and batch norms the shapes of weights (in place, values are not loaded).

    Args:
        model: as its configuration builds it.
        weights: by the model's names, with the mark; others are left to the caller's comparison.

    Returns:
        How many layers changed.
    """
    if NARROWED not in weights:
        return 0
    if NARROWED not in dict(model.named_buffers()):
        mark_narrowed(model)
    return sum(_fit(part, name, weights) for name, part in model.named_modules())


def _fit(part: nn.Module, name: str, weights: Mapping[str, Tensor]) -> bool:
    if not isinstance(part, (_ConvNd, nn.Linear, _BatchNorm)):
        return False
    depthwise = isinstance(part, _ConvNd) and part.groups == part.in_channels > 1
    changed = False
    for key, value in list(part._parameters.items()):
        given = weights.get(f"{name}.{key}")
        if value is not None and given is not None and given.shape != value.shape and given.ndim == value.ndim:
            part._parameters[key] = nn.Parameter(value.new_empty(given.shape), value.requires_grad)
            changed = True
    for key, buffer in list(part._buffers.items()):
        given = weights.get(f"{name}.{key}")
        if buffer is not None and given is not None and given.shape != buffer.shape and given.ndim == buffer.ndim:
            part._buffers[key] = buffer.new_empty(given.shape)
            changed = True
    if changed:
        _tell(part, depthwise)
    return changed


def _tell(part: nn.Module, depthwise: bool) -> None:
    """Bring a layer's own numbers of channels in line with its weights."""
    if isinstance(part, _ConvNd):
        first, second = part.weight.shape[:2]
        if depthwise:
            part.groups = first
        if part.transposed:
            part.in_channels, part.out_channels = first, second * part.groups
        else:
            part.out_channels, part.in_channels = first, second * part.groups
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, _BatchNorm):
        part.num_features = len(part.weight if part.weight is not None else part.running_mean)  # type: ignore[arg-type]
