"""Gradients as mmcv asks for them: by value, into tensors that it has made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def pull_back(function: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    """Gradients of ``function(*inputs)`` with respect to every input, times ``grad``.

    mmcv's backward functions run inside an autograd function, where nothing is recorded: the forward pass is repeated
    with recording on.
    """
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in inputs]
        result = function(*leaves)
    return torch.autograd.grad(result, leaves, grad.to(result.dtype))
