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
    """Keeps, evaluates and saves an exponential moving average of the weights.

    Floating-point buffers are averaged as well: the statistics of a batch norm belong to the weights before it. Others
    (counters) are copied. Not for runs that are short against ``1 / (1 - decay)`` steps or anneal their rate to zero
    within that: the average then lags behind the weights (-.02 and -.03 mAP for the two small synthetic detectors).

    The decay of update t is ``decay * (1 - exp(-t / ramp_steps))``: a young average follows the weights closely.

    Args:
        decay: of the average after the ramp.
        ramp_steps: length scale of the ramp in optimiser steps; 0 for none.
    """

    priority = "NORMAL"

    def __init__(self, decay: float = 0.999, ramp_steps: float = 200.0) -> None:
        self.decay, self.ramp_steps = decay, ramp_steps
        self.updates = 0

    def before_run(self, runner: Any) -> None:
        live = dict(runner.detector.state_dict())  # shares storage with the model
        self.average = {name: value.clone() for name, value in live.items()}
        averaged = [name for name, value in live.items() if value.is_floating_point()]
        copied = [name for name, value in live.items() if not value.is_floating_point()]
        self._weights = [self.average[name] for name in averaged], [live[name] for name in averaged]
        self._buffers = [self.average[name] for name in copied], [live[name] for name in copied]

    def before_train(self, runner: Any) -> None:
        if self.updates == 0:  # weights may have been loaded since before_run
            _copy(*self._weights)
            _copy(*self._buffers)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.updates += 1
        ramp = 1 - math.exp(-self.updates / self.ramp_steps) if self.ramp_steps else 1.0
        with torch.no_grad():
            torch._foreach_lerp_(*self._weights, 1 - self.decay * ramp)
        _copy(*self._buffers)

    def before_val_epoch(self, runner: Any) -> None:
        self._swap()

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self._swap()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["ema_state_dict"] = dict(self.average)
        checkpoint["ema_updates"] = self.updates

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if "ema_state_dict" in checkpoint:
            _copy(list(self.average.values()), [checkpoint["ema_state_dict"][name] for name in self.average])
            self.updates = int(checkpoint["ema_updates"])

    def _swap(self) -> None:
        for average, live in (self._weights, self._buffers):
            kept = [value.clone() for value in live]
            _copy(live, average)
            _copy(average, kept)


def _copy(destination: list[Tensor], source: list[Tensor]) -> None:
    if destination:
        with torch.no_grad():
            torch._foreach_copy_(destination, source)
