"""Optimiser wrappers: accumulation, clipping, mixed precision on CPU and CUDA, and the guard against non-finite values.

mmengine's ``AmpOptimWrapper`` refuses CPU, and its clipping waits for the device every step; these two replace both
behind the same configuration keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.optim import OptimWrapper as _OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from bev.engine.guard import NonFiniteGuard
from bev.engine.registries import OPTIM_WRAPPERS
from bev.registry import ConfigError, check_keys

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(_OptimWrapper):
    """One optimiser step over ``accumulative_counts`` micro-batches.

    Args:
        optimizer: what updates the parameters.
        accumulative_counts: micro-batches an optimiser step; the training loop reads it.
        clip_grad: ``dict(max_norm=..., norm_type=2)``: applied to the accumulated gradient. None: the norm is only
            measured.
        check_finite: stop on a non-finite loss or gradient (see :mod:`bev.engine.guard`).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        accumulative_counts: int = 1,
        clip_grad: Mapping[str, Any] | None = None,
        check_finite: bool = True,
    ) -> None:
        if accumulative_counts < 1:
            raise ConfigError(f"'optim_wrapper.accumulative_counts' is {accumulative_counts}, expected at least 1")
        super().__init__(optimizer, accumulative_counts)
        self.clip = dict(clip_grad or {})
        check_keys(self.clip, ("max_norm", "norm_type"), "optim_wrapper.clip_grad")
        self.guard = NonFiniteGuard() if check_finite else None
        self.check_gradient = True
        on_cuda = any(p.is_cuda for group in optimizer.param_groups for p in group["params"])
        # A fused optimiser takes the flag ``found_inf`` on the device, so that the host need not wait for it.
        self.skips_on_device = on_cuda and getattr(optimizer, "_step_supports_amp_scaling", False)
        self.grad_norm: Tensor | None = None
        self._micro_batches = 1

    @property
    def accumulative_counts(self) -> int:
        """Micro-batches an optimiser step."""
        return self._accumulative_counts

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Nothing to do: a step here is always a whole number of micro-batches, and so is every checkpoint."""

    @contextmanager
    def optim_context(self, model: nn.Module, synchronise: bool = True) -> Iterator[None]:
        """Around the forward pass: DDP exchanges gradients only in the last micro-batch of a step."""
        no_sync = None if synchronise else getattr(model, "no_sync", None)
        with no_sync() if no_sync is not None else nullcontext(), self.autocast(model):
            yield

    def autocast(self, model: nn.Module) -> Any:
        """The precision context of the forward pass."""
        return nullcontext()

    def begin_step(self, model: nn.Module, micro_batches: int) -> None:
        """Before the first micro-batch."""
        self._micro_batches = micro_batches
        if self.guard is not None:
            self.guard.begin_step(model)

    def backward(  # type: ignore[override]
        self, loss: Tensor, names: Sequence[str] = (), values: Tensor | None = None, tokens: Sequence[str] = ()
    ) -> None:
        """Add one micro-batch's share of the gradient.

        Args:
            loss: scalar.
            names, values: the loss terms by name, (T,), for the guard's message.
            tokens: the frames of the micro-batch, for the guard's message.
        """
        if self.guard is not None and values is not None:
            self.guard.watch_loss(names, values, tokens)
        self._scale(loss / self._micro_batches).backward()

    def finish_step(self) -> None:
        """Clip, check, update, and clear the gradient."""
        self._unscale()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.grad_norm = nn.utils.get_total_norm([p.grad for p in parameters], self.clip.get("norm_type", 2.0))
        if self.guard is not None:
            deferred = self.check_gradient and self.skips_on_device
            self.guard.check(self.grad_norm if self.check_gradient and not deferred else None, parameters)
            if deferred:
                self.optimizer.found_inf = self.guard.defer(self.grad_norm)
        if "max_norm" in self.clip:
            nn.utils.clip_grads_with_norm_(parameters, self.clip["max_norm"], self.grad_norm)
        self.step()
        self.optimizer.zero_grad(set_to_none=True)

    def finish_run(self) -> None:
        """After the last step: what the guard has still to read."""
        if self.guard is not None:
            self.guard.check_deferred()

    def step(self, **kwargs: Any) -> None:
        """Update the parameters (clipping is done)."""
        self.optimizer.step(**kwargs)

    def _scale(self, loss: Tensor) -> Tensor:
        return loss

    def _unscale(self) -> None:
        """Nothing is scaled in full precision."""


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """Mixed precision by autocast: bfloat16 on CPU and CUDA, float16 with a gradient scaler on CUDA.

    Args:
        dtype: bfloat16 or float16.
        loss_scale: first scale of the float16 gradient scaler, or "dynamic" for 65536.
        others: as :class:`OptimWrapper`. With float16 the scaler skips steps with a non-finite gradient and lowers the
            scale, so only the loss is guarded.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        accumulative_counts: int = 1,
        clip_grad: Mapping[str, Any] | None = None,
        check_finite: bool = True,
        dtype: str = "bfloat16",
        loss_scale: float | str = "dynamic",
    ) -> None:
        super().__init__(optimizer, accumulative_counts, clip_grad, check_finite)
        if dtype not in AMP_DTYPES:
            raise ConfigError(f"config key 'optim_wrapper.dtype' is {dtype!r}; valid: {', '.join(AMP_DTYPES)}")
        self.dtype = AMP_DTYPES[dtype]
        device = self.optimizer.param_groups[0]["params"][0].device.type
        if self.dtype is torch.float16 and device != "cuda":
            raise ConfigError("config key 'optim_wrapper.dtype': float16 needs CUDA; use bfloat16 on CPU")
        first = 2.0**16 if loss_scale == "dynamic" else float(loss_scale)
        self.scaler = torch.amp.GradScaler(device, init_scale=first, enabled=self.dtype is torch.float16)
        self.check_gradient = self.dtype is not torch.float16

    def autocast(self, model: nn.Module) -> Any:
        device = next(model.parameters()).device.type
        return torch.autocast(device, dtype=self.dtype)

    def step(self, **kwargs: Any) -> None:
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def _scale(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss)

    def _unscale(self) -> None:
        self.scaler.unscale_(self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "loss_scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        self.scaler.load_state_dict(state.pop("loss_scaler", {}))
        super().load_state_dict(state)
