"""Progress on the screen: a live bar on a terminal, else one line every so often."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column

from bev.engine.hooks.window import Window
from bev.registry import HOOKS

REFRESH_S = 1.0


@HOOKS.register_module()
class ProgressHook(Hook):
    """Loss, learning rate, seconds a step, share of waiting for data, memory, time left.

    Only the main process shows anything; the loss is its own share of the batch (``scalars.jsonl`` has the mean).

    Args:
        interval: optimiser steps between two lines where the output is not a terminal.
        live: True or False forces or forbids the bar; None decides by the output.
    """

    priority = "BELOW_NORMAL"

    def __init__(self, interval: int = 50, live: bool | None = None) -> None:
        self.interval, self.live = interval, live
        self._window = Window()
        self._progress: Progress | None = None
        self._train: TaskID | None = None
        self._evaluation: TaskID | None = None
        self._shown_at = 0.0
        self._seconds_a_step: float | None = None
        self._streams: list[tuple[logging.StreamHandler[Any], Any]] = []

    def before_run(self, runner: Any) -> None:
        """Start the bar, on the first process and where the terminal shows one; the log moves above it."""
        live = sys.stdout.isatty() if self.live is None else self.live
        if runner.rank != 0 or not live:
            return
        # What does not fit beside the bar goes on in a second line; a Console of its own has today's width.
        text = TextColumn("{task.fields[text]}", table_column=Column())
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), text)
        self._progress = Progress(*columns, console=Console())
        self._progress.start()
        # The bar moves what is printed above itself, but the logger keeps the stream of before.
        for handler in runner.logger.handlers:
            if type(handler) is logging.StreamHandler:
                self._streams.append((handler, handler.setStream(sys.stdout)))

    def after_run(self, runner: Any) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was; also called when the run ends with an error."""
        if self._progress is not None:
            self._progress.stop()
        for handler, original in self._streams:
            handler.setStream(original)
        self._progress, self._streams = None, []

    def before_train(self, runner: Any) -> None:
        """Say how long the run is and where it starts."""
        loop = runner.train_loop
        if runner.rank == 0:
            runner.logger.info(
                f"training {loop.max_iters} steps of {loop.frames_per_step} frames ({loop.max_epochs} epochs of"
                f" {loop.length}) from step {loop.steps_done}; {runner.work_dir}"
            )
        if self._progress is not None:
            self._train = self._progress.add_task("train", total=loop.max_iters, completed=loop.steps_done, text="")

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Move the bar; without one, print a line every ``interval`` steps and at the first and last."""
        if runner.rank != 0:
            return
        loop = runner.train_loop
        self._window.add(outputs or {}, loop.step_seconds, loop.data_seconds)
        if self._progress is not None and self._train is not None:
            self._progress.update(self._train, completed=loop.steps_done)
            if time.monotonic() - self._shown_at > REFRESH_S:
                self._progress.update(self._train, text=self._text(runner))
                self._shown_at = time.monotonic()
        elif loop.steps_done % self.interval == 0 or loop.steps_done in (1, loop.max_iters):
            print(f"step {loop.steps_done}/{loop.max_iters}  {self._text(runner, terms=True)}", flush=True)

    def _text(self, runner: Any, terms: bool = False) -> str:
        loop = runner.train_loop
        means = self._window.means()
        rates = [group["lr"] for group in runner.optim_wrapper.param_groups]
        times = {key: means.pop(key) for key in ("step_s", "data_share", "memory_mib")}
        smoothed = times["step_s"] if self._seconds_a_step is None else self._seconds_a_step
        self._seconds_a_step = 0.5 * (smoothed + times["step_s"])
        parts = [f"loss {means.pop('loss'):.4f}"] if "loss" in means else []
        if terms and means:
            parts.append("(" + ", ".join(f"{name} {value:.4f}" for name, value in means.items()) + ")")
        left = duration(self._seconds_a_step * (loop.max_iters - loop.steps_done))
        parts += [f"lr {max(rates):.2e}", f"{times['step_s']:.3f} s/step", f"data {times['data_share']:.0%}"]
        return "  ".join([*parts, f"memory {times['memory_mib']:.0f} MiB", f"left {left}"])

    # Validation and test --------------------------------------------------------------------------------------------

    def before_val_epoch(self, runner: Any) -> None:
        self._begin_evaluation("val", runner.val_loop)

    def before_test_epoch(self, runner: Any) -> None:
        self._begin_evaluation("test", runner.test_loop)

    def _begin_evaluation(self, stage: str, loop: Any) -> None:
        if self._progress is not None:
            self._evaluation = self._progress.add_task(stage, total=len(loop.dataloader), text="")

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._progress is not None and self._evaluation is not None:
            self._progress.update(self._evaluation, completed=batch_idx + 1)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        self._end_evaluation(runner, f"validation at step {runner.train_loop.steps_done}", metrics)

    def after_test_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        self._end_evaluation(runner, "test", metrics)

    def _end_evaluation(self, runner: Any, title: str, metrics: Mapping[str, Any] | None) -> None:
        if self._progress is not None and self._evaluation is not None:
            self._progress.remove_task(self._evaluation)
        if runner.rank == 0 and metrics:
            shown = {k: v for k, v in metrics.items() if isinstance(v, (int, float))}
            runner.logger.info(f"{title}: " + "  ".join(f"{name} {value:.4f}" for name, value in shown.items()))


def duration(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
