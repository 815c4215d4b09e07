"""Numbered checkpoints of a training run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from bev.engine import distributed
from bev.engine.run_state import save_state
from bev.registry import HOOKS


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Saves the whole state of the run as ``step_N.pth`` and keeps the newest few.

    Args:
        interval: optimiser steps between two; None saves every ``interval_s`` seconds. The last step is always saved.
        interval_s: seconds between two, where ``interval`` is None.
        max_keep_ckpts: how many to keep (0 keeps all).
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int | None = None, interval_s: float = 300.0, max_keep_ckpts: int = 2) -> None:
        self.interval, self.interval_s, self.max_keep_ckpts = interval, interval_s, max_keep_ckpts
        self._last_save = time.monotonic()
        self._saved_step: int | None = None

    def before_train(self, runner: Any) -> None:
        self._last_save = time.monotonic()
        self._saved_step = runner.train_loop.steps_done
        if runner.rank == 0:
            for leftover in Path(runner.work_dir).glob("*.pth.*.tmp"):
                leftover.unlink()  # of a process that was killed while it wrote

    def after_train_step(self, runner: Any) -> None:
        """Called by TrainLoop when schedules and averages have moved on, also those that move by epochs."""
        loop = runner.train_loop
        # The last step is saved before the final validation, which may take long or fail.
        if self._due(loop.steps_done) or loop.steps_done == loop.max_iters:
            self.save(runner)

    def after_train(self, runner: Any) -> None:
        if self._saved_step != runner.train_loop.steps_done:
            self.save(runner)

    def _due(self, step: int) -> bool:
        if self.interval is not None:
            return self.interval > 0 and step % self.interval == 0
        return distributed.any_process(time.monotonic() - self._last_save > self.interval_s)

    def save(self, runner: Any) -> Path:
        """Save now; call on every process."""
        self._saved_step = runner.train_loop.steps_done
        path = save_state(runner, f"step_{self._saved_step}.pth")
        self._last_save = time.monotonic()
        if runner.rank == 0 and self.max_keep_ckpts > 0:
            numbered = sorted((p for p in Path(runner.work_dir).glob("step_*.pth") if _step_of(p) >= 0), key=_step_of)
            upto = [p for p in numbered if _step_of(p) <= self._saved_step]
            for old in upto[: -self.max_keep_ckpts]:
                old.unlink()
        return path


def _step_of(path: Path) -> int:
    number = path.stem.removeprefix("step_")
    return int(number) if number.isdigit() else -1
