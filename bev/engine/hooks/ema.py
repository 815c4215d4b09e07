"""Exponential moving average of the weights."""

from __future__ import annotations

import math
from typing import Any

from bev.engine.hooks.averaging import AveragingHook
from bev.registry import HOOKS


@HOOKS.register_module()
class EMAHook(AveragingHook):
    """Keeps, evaluates and saves an exponential moving average of the weights.

    Not for runs that are short against ``1 / (1 - decay)`` steps or anneal their rate to zero within that: the average
    then lags behind the weights (-.02 and -.03 mAP for the two small synthetic detectors).

    The decay of update t is ``decay * (1 - exp(-t / ramp_steps))``: a young average follows the weights closely.

    Args:
        decay: of the average after the ramp.
        ramp_steps: length scale of the ramp in optimiser steps; 0 for none.
    """

    name = "ema"

    def __init__(self, decay: float = 0.999, ramp_steps: float = 200.0) -> None:
        self.decay, self.ramp_steps = decay, ramp_steps

    def before_train(self, runner: Any) -> None:
        if self.updates == 0:  # weights may have been loaded since before_run
            self.reset()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        ramp = 1 - math.exp(-(self.updates + 1) / self.ramp_steps) if self.ramp_steps else 1.0
        self.take(1 - self.decay * ramp)
