"""What averages of the weights share: they are validated and saved in the place of the weights, and come back."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from bev.registry import ConfigError


class AveragingHook(Hook):
    """Keeps an average of the weights, evaluates it and saves it as ``<name>_state_dict``.

    Floating-point buffers are averaged as well: the statistics of a batch norm belong to the weights before it. Others
    (counters) are copied.
    """

    priority = "NORMAL"
    name = "average"
    updates = 0

    def before_run(self, runner: Any) -> None:
        """Begin the average with the weights as they are.

        Raises:
            ConfigError: another hook averages them too.
        """
        others = [hook for hook in runner.hooks if isinstance(hook, AveragingHook) and hook is not self]
        if others:
            names = f"{type(self).__name__} and {type(others[0]).__name__}"
            raise ConfigError(f"config key 'custom_hooks': {names} both average the weights: choose one")
        live = dict(runner.detector.state_dict())  # shares storage with the model
        self.average = {name: value.clone() for name, value in live.items()}
        averaged = [name for name, value in live.items() if value.is_floating_point()]
        copied = [name for name, value in live.items() if not value.is_floating_point()]
        self._weights = [self.average[name] for name in averaged], [live[name] for name in averaged]
        self._buffers = [self.average[name] for name in copied], [live[name] for name in copied]

    def take(self, share: float) -> None:
        """Move the average by ``share`` of the way to the weights; 1 makes it the weights."""
        self.updates += 1
        if share == 1.0:
            _copy(*self._weights)
        else:
            with torch.no_grad():
                torch._foreach_lerp_(*self._weights, share)
        _copy(*self._buffers)

    def before_val_epoch(self, runner: Any) -> None:
        """Validate the average."""
        self.swap()

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Go on with the weights."""
        self.swap()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Save the average and how many steps it has seen."""
        checkpoint[f"{self.name}_state_dict"] = dict(self.average)
        checkpoint[f"{self.name}_updates"] = self.updates

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Take up a saved average; a checkpoint without one leaves it at the weights it began with."""
        saved = checkpoint.get(f"{self.name}_state_dict")
        if saved is not None:
            _copy(list(self.average.values()), [saved[name] for name in self.average])
            self.updates = int(checkpoint[f"{self.name}_updates"])

    def swap(self) -> None:
        """Exchange weights and average."""
        for average, live in (self._weights, self._buffers):
            kept = [value.clone() for value in live]
            _copy(live, average)
            _copy(average, kept)

    def reset(self) -> None:
        """Make the average the weights, without counting it."""
        _copy(*self._weights)
        _copy(*self._buffers)


def _copy(destination: list[Tensor], source: list[Tensor]) -> None:
    if destination:
        with torch.no_grad():
            torch._foreach_copy_(destination, source)
