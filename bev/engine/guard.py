"""Stops training on a non-finite loss or gradient before it reaches the weights.

The checks cost the device no pause. The flags of the loss are copied while the backward pass is already queued, and
read when the forward pass alone has finished. The gradient's flag makes a fused optimiser skip its update on the device
(as a gradient scaler does) and is read one step later; without one it is read at once. All checks fall where every
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

    Buffers that checkpoints hold (running statistics) are kept from before the step, since the forward
    pass that gives a non-finite loss has already spoilt them.
    """

    def __init__(self) -> None:
        self._model: nn.Module | None = None
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._watched: list[_Watched] = []
        self._deferred: _Watched | None = None

    def begin_step(self, model: nn.Module) -> None:
        """Read what was deferred, keep the buffers, forget the last step's frames."""
        self.check_deferred()
        self._watched = []
        if self._model is not model:
            saved = model.state_dict(keep_vars=True)
            self._buffers = [b for name, b in model.named_buffers() if name in saved]
            self._kept = [buffer.clone() for buffer in self._buffers]
            self._model = model
        elif self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._kept, self._buffers)

    def watch_loss(self, names: Sequence[str], values: Tensor, tokens: Sequence[str]) -> None:
        """Note the terms (T,) of one micro-batch; starts the copy of the flags to the host."""
        self._watched.append(_watch(names, values, tokens))

    def check(self, norm: Tensor | None, parameters: Sequence[Tensor]) -> None:
        """Raise on every process if on any of them a loss or the gradient was not finite, after restoring the buffers.

        Args:
            norm: of the gradient; None leaves the gradient unchecked.
            parameters: those with a gradient, for the message.

        Raises:
            NonFiniteError: names the terms (or counts the parameters) and the frames.
        """
        problem = _loss_problem(self._watched) or self._gradient_problem(norm, parameters)
        if distributed.any_process(problem is not None):
            self.restore()
            raise NonFiniteError(problem or "another process found a non-finite loss or gradient; see its message")

    def defer(self, norm: Tensor) -> Tensor:
        """1.0 where the norm is not finite, else 0.0: what a fused optimiser takes as ``found_inf``."""
        watched = _watch(["gradient norm"], norm[None], [t for watched in self._watched for t in watched.tokens])
        self._deferred = watched
        return (~torch.isfinite(norm)).float()

    def check_deferred(self) -> None:
        """Raise for a gradient whose update was skipped on the device; the weights are those of before it."""
        deferred, self._deferred = self._deferred, None
        if deferred is not None and (problem := _loss_problem([deferred])):
            raise NonFiniteError(problem.replace("loss", "gradient", 1))

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


def _watch(names: Sequence[str], values: Tensor, tokens: Sequence[str]) -> _Watched:
    values = values.detach()
    finite, copied = torch.isfinite(values), None
    if finite.is_cuda:
        host = torch.empty(finite.shape, dtype=torch.bool, pin_memory=True)
        finite, copied = host.copy_(finite, non_blocking=True), torch.cuda.Event()
        copied.record()
    return _Watched(list(names), values, finite, copied, list(tokens))


def _loss_problem(steps: Sequence[_Watched]) -> str | None:
    for watched in steps:
        if watched.copied is not None:
            watched.copied.synchronize()
        flags = watched.finite.tolist()
        if not all(flags):
            values = watched.values.tolist()
            bad = [f"{name} = {value}" for name, value, ok in zip(watched.names, values, flags) if not ok]
            return f"loss is not finite: {', '.join(bad)}; samples: {', '.join(watched.tokens)}"
    return None
