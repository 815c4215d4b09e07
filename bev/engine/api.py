"""What the command-line doors call."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook

from bev.engine import distributed
from bev.engine.adapter import DetectorAdapter
from bev.engine.guard import NonFiniteError
from bev.engine.hooks import ProgressHook
from bev.engine.memory import keep_freed_memory
from bev.engine.run_state import last_checkpoint, save_state
from bev.engine.runner import Runner
from bev.io import FileError
from bev.io.checkpoint import CheckpointError
from bev.models.detectors import Detector
from bev.registry import ConfigError
from bev.structures import Batch, Boxes3D


def prepare(
    cfg: Config,
    work_dir: str | None = None,
    resume: bool | str = False,
    amp: bool = False,
    seed: int | None = None,
    launcher: str = "none",
) -> Config:
    """Put the command line's choices into a configuration (in place).

    Args:
        cfg: as read.
        work_dir: default ``work_dirs/<name of the configuration file>``.
        resume: True for the work folder's last checkpoint, or a path.
        amp: train in bfloat16, if the configuration does not choose a mixed precision itself.
        seed: of the run.
        launcher: none or pytorch (torchrun).
    """
    name = Path(cfg.filename).stem if cfg.filename else "run"
    cfg.work_dir = work_dir or cfg.get("work_dir") or f"work_dirs/{name}"
    cfg.launcher = launcher
    if resume:
        cfg.resume = resume
    if seed is not None:
        cfg.seed = seed
        (cfg.get("randomness") or {}).pop("seed", None)
    if amp:
        if "optim_wrapper" not in cfg:
            raise ConfigError("config key 'optim_wrapper' is missing: --amp has nothing to change")
        if cfg.optim_wrapper.get("type", "OptimWrapper") == "OptimWrapper":
            cfg.optim_wrapper.type = "AmpOptimWrapper"
    return cfg


def train(cfg: Config) -> int:
    """Train; returns the process's exit status: 0, or 128 + the signal that ended the run early.

    Raises:
        ConfigError, CheckpointError: the run cannot start.
        NonFiniteError: stopped by the guard, after saving the last good state.
    """
    if cfg.get("train_cfg") is None:
        raise ConfigError("config key 'train_cfg' is missing: training needs it")
    cfg.pop("test_cfg", None)
    keep_freed_memory()
    runner = Runner(cfg)
    with _signals(runner), _closing(runner):
        try:
            runner.train()
        except NonFiniteError as error:
            path = save_state(runner, f"last_good_{runner.train_loop.steps_done}.pth")
            raise NonFiniteError(f"{error}\nstopped before the update; the last good state is {path}") from None
    done, total = runner.train_loop.steps_done, runner.train_loop.max_iters
    if runner.stop_signal is not None and done < total:
        if runner.rank == 0:
            name = signal.Signals(runner.stop_signal).name
            print(
                f"stopped by {name} after step {done} of {total}; continue with: python tools/train.py"
                f" {cfg.filename} --work-dir {cfg.work_dir} --resume",
                flush=True,
            )
        return 128 + runner.stop_signal
    return 0


class _ResultHook(Hook):
    """Hands every predicted batch to a function, before it is scored."""

    def __init__(self, on_result: Callable[[Batch, list[Boxes3D]], None]) -> None:
        self._on_result = on_result

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._on_result(data_batch, outputs)


def test(
    cfg: Config,
    checkpoint: str,
    out: str | None = None,
    on_result: Callable[[Batch, list[Boxes3D]], None] | None = None,
    report: str | None = None,
    detector: Detector | None = None,
) -> dict[str, Any]:
    """Predict the test frames with a checkpoint (its moving average where it has one) and score them.

    Args:
        cfg: configuration with ``test_dataloader`` and ``test_evaluator``.
        checkpoint: file, or a work folder for its last one; every weight must fit.
        out: where the results go: becomes the argument ``out`` of the first metric of ``test_evaluator``.
        on_result: called with every batch and its predictions, e.g. to draw them.
        report: folder for the report page: becomes the argument ``report`` of the same metric.
        detector: what predicts in the place of the configuration's model; the checkpoint is not read then.

    Returns:
        Metrics by name.

    Raises:
        ConfigError, CheckpointError: the run cannot start.
    """
    cfg = cfg.copy()
    for key in ("train_cfg", "load_from", "resume"):  # nothing of training is built
        cfg.pop(key, None)
    cfg.test_cfg = cfg.get("test_cfg") or {}
    unused = {"checkpoint": None, "scalars": None, "param_scheduler": None}
    cfg.default_hooks = {**(cfg.get("default_hooks") or {}), **unused}
    if cfg.get("test_evaluator"):
        first: Any = cfg.test_evaluator if isinstance(cfg.test_evaluator, Mapping) else cfg.test_evaluator[0]
        first.update({name: value for name, value in (("out", out), ("report", report)) if value is not None})
    runner = Runner(cfg)
    if on_result is not None:
        runner.register_hook(_ResultHook(on_result))
    if detector is None:
        runner.load_checkpoint(checkpoint_file(checkpoint), strict=True)
    else:
        runner.model = DetectorAdapter(detector.eval())
    with _closing(runner):
        metrics: dict[str, Any] = runner.test()
    return metrics


def checkpoint_file(path: str | Path) -> Path:
    """The file itself, or the last checkpoint of a work folder."""
    if not Path(path).is_dir():
        return Path(path)
    last = last_checkpoint(path)
    if last is None:
        raise CheckpointError(f"{path} holds no checkpoint: it has no file 'last_checkpoint'")
    return last


@contextmanager
def _signals(runner: Runner) -> Iterator[None]:
    """SIGTERM and SIGINT end the run after the current step, saved; a second one ends it at once."""

    first_at = 0.0

    def on_signal(number: int, frame: Any) -> None:
        nonlocal first_at
        if runner.stop_signal is not None:
            # torchrun passes on within a moment the Ctrl-C that the terminal has already sent to its children.
            if time.monotonic() - first_at > 2.0:
                raise KeyboardInterrupt
            return
        runner.stop_signal, first_at = number, time.monotonic()
        print(f"\n{signal.Signals(number).name}: finishing the step and saving", file=sys.stderr, flush=True)

    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in previous:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _closing(runner: Runner) -> Iterator[None]:
    """Leave terminal and process group in order, whatever happens."""
    try:
        yield
    finally:
        for hook in runner.hooks:
            if isinstance(hook, ProgressHook):
                hook.close()


def main(run: Callable[[], int], also: tuple[type[Exception], ...] = ()) -> int:
    """Run a command; an error that is the user's to mend (``also`` these) is one message without a traceback."""
    expected: tuple[type[Exception], ...] = (ConfigError, CheckpointError, FileError, NonFiniteError, *also)
    try:
        status = run()
    except expected as error:
        # The process group is left to the end of the process: to take leave of the others could wait for them.
        print(f"error: {error}", file=sys.stderr)
        return 2
    distributed.cleanup()
    return status
