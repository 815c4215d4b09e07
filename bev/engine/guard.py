"""Stops training on a non-finite loss or gradient before it reaches the weights.

The check of the loss costs no pause of the device: the flags are copied while the backward pass is already queued, and
read when the forward pass alone has finished. Both checks fall after the last backward pass of a step, where every
process has made the same exchanges, so that all of them stop together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bev.engine import distributed


class NonFiniteError(RuntimeError):
    """A loss term or the gradient is NaN or infinite; names the terms and the frames."""


class _Watched(NamedTuple):
    names: list[str]
    values: Tensor
    finite: Tensor
    copied: torch.cuda.Event | None
    tokens: list[str]


class NonFiniteGuard:
    """Watches one optimiser step.

    Floating-point buffers (running statistics) are kept from before the step, since the forward pass that gives a
    non-finite loss has already spoilt them.
    """

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._watched: list[_Watched] = []

    def begin_step(self, model: nn.Module) -> None:
        """Keep the buffers; forget the last step's frames."""
        self._watched = []
        buffers = [b for b in model.buffers() if b.is_floating_point()]
        if len(buffers) != len(self._buffers) or any(a is not b for a, b in zip(buffers, self._buffers)):
            self._buffers, self._kept = buffers, [b.clone() for b in buffers]
        elif buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._kept, buffers)

    def watch_loss(self, names: Sequence[str], values: Tensor, tokens: Sequence[str]) -> None:
        """Note the terms (T,) of one micro-batch; starts the copy of the flags to the host."""
        values = values.detach()
        finite, copied = torch.isfinite(values), None
        if finite.is_cuda:
            host = torch.empty(finite.shape, dtype=torch.bool, pin_memory=True)
            finite, copied = host.copy_(finite, non_blocking=True), torch.cuda.Event()
            copied.record()
        self._watched.append(_Watched(list(names), values, finite, copied, list(tokens)))

    def check(self, norm: Tensor | None, parameters: Sequence[Tensor]) -> None:
        """Raise on every process if on any of them a loss or the gradient was not finite, after restoring the buffers.

        Args:
            norm: of the gradient; None leaves the gradient unchecked.
            parameters: those with a gradient, for the message.

        Raises:
            NonFiniteError: names the terms (or counts the parameters) and the frames.
        """
        problem = self._loss_problem() or self._gradient_problem(norm, parameters)
        if distributed.any_process(problem is not None):
            self.restore()
            raise NonFiniteError(problem or "another process found a non-finite loss or gradient; see its message")

    def _loss_problem(self) -> str | None:
        for watched in self._watched:
            if watched.copied is not None:
                watched.copied.synchronize()
            flags = watched.finite.tolist()
            if not all(flags):
                values = watched.values.tolist()
                bad = [f"{name} = {value}" for name, value, ok in zip(watched.names, values, flags) if not ok]
                return f"loss is not finite: {', '.join(bad)}; samples: {', '.join(watched.tokens)}"
        return None

    def _gradient_problem(self, norm: Tensor | None, parameters: Sequence[Tensor]) -> str | None:
        if norm is None or bool(torch.isfinite(norm)):
            return None
        bad = sum(1 for p in parameters if p.grad is not None and not bool(torch.isfinite(p.grad).all()))
        tokens = [token for watched in self._watched for token in watched.tokens]
        return (
            f"gradient is not finite: its norm is {norm.item()}, {bad} of {len(parameters)} parameters have"
            f" non-finite entries; samples: {', '.join(tokens)}"
        )

    def restore(self) -> None:
        """Put the buffers back to before the step."""
        if self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._buffers, self._kept)
