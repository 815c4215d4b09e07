"""Stochastic weight averaging: the mean of the weights at a few late moments of the run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bev.engine import distributed, random_state
from bev.engine.data import stream
from bev.engine.hooks.averaging import AveragingHook
from bev.engine.schedule import cycle_borders
from bev.registry import HOOKS, ConfigError


@HOOKS.register_module()
class SWAHook(AveragingHook):
    """Averages the weights at evenly spaced moments of the last part of the run (Izmailov et al., UAI 2018, arXiv
    1803.05407), evaluates and saves the mean.

    The moments are the ends of the cycles of ``WarmupCosineLR(cycles=updates, cycle_start=start)``, as SWA object
    detection trains (arXiv 2012.12645); with another schedule they are simply evenly spaced, the last one at the end.

    The mean of networks has other statistics in its batch norms than the mean of their statistics. After the last step
    they are estimated anew on training batches, the first ones of the run, without a trace in the random numbers; in a
    run that ends early they stay means. Before the first moment the weights themselves are validated and saved.

    Args:
        start: share of the run before the averaged part.
        updates: moments.
        bn_batches: training batches (a process) of the new estimate; 0 for none.

    Raises:
        ConfigError: values that make no sense, or fewer steps than moments.
    """

    name = "swa"

    def __init__(self, start: float = 0.75, updates: int = 5, bn_batches: int = 50) -> None:
        if not 0 <= start < 1 or updates < 1 or bn_batches < 0:
            raise ConfigError(f"SWAHook: start {start} in 0..1, updates {updates} >= 1, bn_batches {bn_batches} >= 0")
        self.start, self.moments, self.bn_batches = start, updates, bn_batches

    def before_train(self, runner: Any) -> None:
        self._borders = cycle_borders(runner.train_loop.max_iters, self.start, self.moments)[1:]
        if len(set(self._borders)) < self.moments or self._borders[0] < 1:
            steps = runner.train_loop.max_iters
            raise ConfigError(f"SWAHook: {self.moments} updates do not fit into the last part of {steps} steps")

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if batch_idx + 1 in self._borders:
            self.take(1 / (self.updates + 1))
        if batch_idx + 1 == runner.train_loop.max_iters and self.bn_batches:
            self._estimate(runner)

    def _estimate(self, runner: Any) -> None:
        state = random_state.capture()
        self.swap()
        batches = stream(runner.train_loop.dataloader, 0)
        some = (next(batches).to(runner.model.device) for _ in range(self.bn_batches))
        with runner.optim_wrapper.autocast(runner.detector):
            estimate_statistics(runner.detector, some)
        self.swap()
        random_state.restore(state)

    def before_val_epoch(self, runner: Any) -> None:
        if self.updates:
            self.swap()

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        if self.updates:
            self.swap()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if self.updates:
            super().before_save_checkpoint(runner, checkpoint)


@torch.no_grad()
def estimate_statistics(detector: nn.Module, batches: Iterable[Any]) -> None:
    """Running statistics of the batch norms in training mode as plain means over batches (and processes).

    Args:
        detector: in training mode; frozen norms are left alone.
        batches: with ground truth, on the detector's device.
    """
    norms = [m for m in detector.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: a cumulative mean
    for batch in batches:
        detector.loss(batch)  # type: ignore[operator]
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        if distributed.world_size() > 1:
            for value in (norm.running_mean, norm.running_var):
                assert value is not None
                torch.distributed.all_reduce(value)
                value /= distributed.world_size()
