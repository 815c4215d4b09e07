"""Scalars of a run as JSON lines and TensorBoard events."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from bev.engine import distributed
from bev.engine.hooks.window import Window
from bev.registry import HOOKS

FILE = "scalars.jsonl"


@HOOKS.register_module()
class ScalarLogHook(Hook):
    """Writes ``scalars.jsonl`` (one JSON object a line, ``mode`` train or val) and ``tensorboard/``.

    A resumed run first drops the lines after its checkpoint's step, so that the log is that of one unbroken run. A run
    that starts anew in the same folder puts an older log aside.

    Args:
        interval: optimiser steps a line of training; scalars are means over them and over the processes.
        tensorboard: also write event files, where tensorboard is installed.
    """

    priority = "BELOW_NORMAL"

    def __init__(self, interval: int = 10, tensorboard: bool = True) -> None:
        self.interval, self.tensorboard = interval, tensorboard
        self._window = Window()
        self._file: Any = None
        self._writer: Any = None

    def before_train(self, runner: Any) -> None:
        """Open the files. A resumed run drops the lines after its step; a new one puts an older log aside."""
        validated: list[int] = []
        if runner.rank == 0:
            step = runner.train_loop.steps_done
            path = Path(runner.work_dir) / FILE
            if step == 0 and path.exists():
                os.replace(path, path.with_name(f"scalars_until_{runner.timestamp}.jsonl"))
            validated = [r["step"] for r in _truncate(path, step) if r["mode"] == "val"]
            self._file = open(path, "a", buffering=1)
            self._writer = self._open_tensorboard(runner, step)
        runner.validated_steps = set(distributed.broadcast(validated))

    def _open_tensorboard(self, runner: Any, step: int) -> Any:
        if not self.tensorboard:
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            runner.logger.info("no TensorBoard files: pip install 'bevstack[train]' adds them")
            return None
        return SummaryWriter(os.path.join(runner.work_dir, "tensorboard"), purge_step=step + 1 if step else 0)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write the means of the last ``interval`` steps, and the learning rate of the one just made."""
        loop = runner.train_loop
        scalars = dict(outputs or {})
        if runner.optim_wrapper.grad_norm is not None:
            scalars["grad_norm"] = runner.optim_wrapper.grad_norm
        self._window.add(scalars, loop.step_seconds, loop.data_seconds)
        if loop.steps_done % self.interval == 0 or loop.steps_done == loop.max_iters:
            # The rate of the step just made; the schedule has not moved on yet (its hook has a lower priority).
            lr = max(group["lr"] for group in runner.optim_wrapper.param_groups)
            self._write("train", loop.steps_done, {**self._window.means(over_processes=True), "lr": lr})

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """Write the metrics."""
        if metrics and runner.optim_wrapper is not None:
            step = runner.train_loop.steps_done
            runner.validated_steps.add(step)
            self._write("val", step, {k: v for k, v in metrics.items() if isinstance(v, (int, float))})

    def _write(self, mode: str, step: int, scalars: Mapping[str, float]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps({"mode": mode, "step": step, **scalars}) + "\n")
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(f"{mode}/{name}", value, step)

    def after_run(self, runner: Any) -> None:
        """Close the files."""
        for output in (self._file, self._writer):
            if output is not None:
                output.close()
        self._file = self._writer = None


def _truncate(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop the lines after ``step`` (and a last one cut short by a kill); returns those kept."""
    if not path.exists():
        return []
    kept: list[dict[str, Any]] = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if record["step"] <= step:
            kept.append(record)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
    os.replace(temporary, path)
    return kept
