"""Exponential moving average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from bev.registry import HOOKS


@HOOKS.register_module()
class EMAHook(Hook):
    """Keeps, evaluates and saves an exponential moving average of the parameters; buffers are copied.

    The decay of update t is ``decay * (1 - exp(-t / ramp_steps))``: a young average follows the weights closely.

    Args:
        decay: of the average after the ramp.
        ramp_steps: length scale of the ramp in optimiser steps; 0 for none.
    """

    priority = "NORMAL"

    def __init__(self, decay: float = 0.999, ramp_steps: float = 200.0) -> None:
        self.decay, self.ramp_steps = decay, ramp_steps
        self.updates = 0
        self._swapped = False

    def before_run(self, runner: Any) -> None:
        self._live = dict(runner.detector.state_dict())  # shares storage with the model
        self.average = {name: value.detach().clone() for name, value in self._live.items()}
        parameters = {name for name, _ in runner.detector.named_parameters()}
        self._averaged = [n for n, v in self._live.items() if n in parameters and v.is_floating_point()]
        self._copied = [name for name in self._live if name not in set(self._averaged)]

    def before_train(self, runner: Any) -> None:
        if self.updates == 0:  # weights may have been loaded since before_run
            self._copy(self.average, self._live, list(self._live))

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.updates += 1
        ramp = 1 - math.exp(-self.updates / self.ramp_steps) if self.ramp_steps else 1.0
        with torch.no_grad():
            average, live = ([table[name] for name in self._averaged] for table in (self.average, self._live))
            torch._foreach_lerp_(average, live, 1 - self.decay * ramp)
        self._copy(self.average, self._live, self._copied)

    def before_val_epoch(self, runner: Any) -> None:
        self._swap()

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self._swap()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["ema_state_dict"] = dict(self.average)
        checkpoint["ema_updates"] = self.updates

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if "ema_state_dict" in checkpoint:
            self._copy(self.average, checkpoint["ema_state_dict"], list(self.average))
            self.updates = int(checkpoint["ema_updates"])

    def _swap(self) -> None:
        kept = {name: value.clone() for name, value in self._live.items()}
        self._copy(self._live, self.average, list(kept))
        self._copy(self.average, kept, list(kept))

    @staticmethod
    def _copy(destination: dict[str, Tensor], source: dict[str, Tensor], names: list[str]) -> None:
        with torch.no_grad():
            for name in names:
                destination[name].copy_(source[name])
