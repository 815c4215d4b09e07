"""What of a run goes into a checkpoint, and comes back from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bev.engine import distributed, random_state
from bev.io.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint, weights_of

if TYPE_CHECKING:
    from bev.engine.runner import Runner

POINTER = "last_checkpoint"
PARTS = ("meta", "state_dict", "optimizer", "param_schedulers", "random_states")


def state_of(runner: Runner) -> dict[str, Any]:
    """All that a resumed run needs, at the border of an optimiser step; call on every process (rank 0's is complete).

    The scalars' history is not in it: nothing depends on it, and ``scalars.jsonl`` has it.
    """
    loop = runner.train_loop
    checkpoint = {
        "meta": {
            "step": loop.steps_done,
            "max_steps": loop.max_iters,
            "frames_per_step": loop.frames_per_step,
            "dataset_length": loop.length,
            "seed": runner.seed,
            "classes": list((getattr(loop.dataloader.dataset, "metainfo", None) or {}).get("classes", ())),
            "config": runner.config_text,
            "versions": {key: str(value) for key, value in runner.versions.items()},
        },
        "state_dict": runner.detector.state_dict(),
        "optimizer": runner.optim_wrapper.state_dict(),
        "param_schedulers": [dict(schedule.state_dict()) for schedule in runner.param_schedulers],
        "random_states": distributed.gather(random_state.capture()),
    }
    if (memory := runner.model.training_stream) is not None:
        checkpoint["stream_states"] = distributed.gather(memory.state_dict())
    runner.call_hook("before_save_checkpoint", checkpoint=checkpoint)
    return checkpoint


def save_state(runner: Runner, name: str) -> Path:
    """Write a checkpoint into the work folder and then point ``last_checkpoint`` at it; call on every process."""
    path = Path(runner.work_dir) / name
    checkpoint = state_of(runner)
    if runner.rank == 0:
        save_checkpoint(checkpoint, path)
        temporary = path.with_name(f"{POINTER}.tmp")
        temporary.write_text(f"{name}\n")
        os.replace(temporary, path.with_name(POINTER))
    return path


def last_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint that ``last_checkpoint`` in a work folder names; None where there is none.

    Raises:
        CheckpointError: the file it names is gone.
    """
    pointer = Path(work_dir) / POINTER
    if not pointer.is_file():
        return None
    path = pointer.with_name(pointer.read_text().strip())
    if not path.is_file():
        raise CheckpointError(f"{pointer} names {path.name}, which does not exist")
    return path


def resume(runner: Runner, filename: str | Path) -> None:
    """Continue a run exactly where a checkpoint left it.

    Raises:
        CheckpointError: unreadable, of another model, weights alone, or of a run whose data would not continue.
    """
    checkpoint = load_checkpoint(filename)
    for part in PARTS:
        if part not in checkpoint:
            raise CheckpointError(
                f"checkpoint {filename} has no {part!r}: it does not hold the state of a run and cannot be resumed;"
                " load_from starts a new run from its weights"
            )
    _check_same_run(runner, checkpoint["meta"], filename)
    load_weights(runner.detector, weights_of(checkpoint, filename, prefer_ema=False), filename)
    try:
        runner.optim_wrapper.load_state_dict(checkpoint["optimizer"])
    except ValueError as error:  # torch: other parameter groups
        raise CheckpointError(f"checkpoint {filename}: the optimiser's state does not fit this run: {error}") from error
    if len(checkpoint["param_schedulers"]) != len(runner.param_schedulers):
        raise CheckpointError(
            f"checkpoint {filename} has {len(checkpoint['param_schedulers'])} schedules, this run has"
            f" {len(runner.param_schedulers)}"
        )
    for schedule, state in zip(runner.param_schedulers, checkpoint["param_schedulers"]):
        schedule.load_state_dict(state)
    runner.train_loop.steps_done = int(checkpoint["meta"]["step"])
    runner.random_states = checkpoint["random_states"]
    _restore_stream(runner, checkpoint.get("stream_states"))
    runner.call_hook("after_load_checkpoint", checkpoint=checkpoint)
    runner.logger.info(f"resumed {filename} at step {runner.train_loop.steps_done} of {runner.train_loop.max_iters}")


def _check_same_run(runner: Runner, meta: Mapping[str, Any], filename: str | Path) -> None:
    loop = runner.train_loop
    mine = {"frames_per_step": loop.frames_per_step, "dataset_length": loop.length, "seed": runner.seed}
    for key, value in mine.items():
        if meta.get(key) != value:
            raise CheckpointError(
                f"checkpoint {filename} is of a run with {key} {meta.get(key)}, this one has {value}:"
                " the order of the data would not continue; load_from starts a new run from its weights"
            )
    if meta["max_steps"] != loop.max_iters:
        runner.logger.warning(f"{filename} is of a run of {meta['max_steps']} steps, this one has {loop.max_iters}")


def _restore_stream(runner: Runner, states: list[dict[str, Any] | None] | None) -> None:
    """What a temporal detector remembered of the batch before the checkpoint, in each process."""
    memory = runner.model.training_stream
    if memory is None:
        return
    if states is None or len(states) != runner.world_size:
        why = "the checkpoint has no memory" if states is None else "another number of processes than the checkpoint's"
        runner.logger.warning(f"{why}: recordings that are under way continue without their past")
        return
    memory.load_state_dict(states[runner.rank], runner.model.device)


def restore_random_state(runner: Runner) -> None:
    """Put a resumed run's random state back; called when everything that might draw numbers is built."""
    states = runner.random_states
    if states is None:
        return
    if len(states) == runner.world_size:
        random_state.restore(states[runner.rank])
    else:
        runner.logger.warning("another number of processes than the checkpoint's: the random state starts anew")
    runner.random_states = None


def load_only_weights(runner: Runner, filename: str | Path, strict: bool) -> None:
    """Load weights alone: what fits, the rest listed (fine-tuning), or everything (``strict``).

    Raises:
        CheckpointError: unreadable, nothing fits, or (``strict``) not everything fits.
    """
    weights = weights_of(load_checkpoint(filename), filename)
    report = load_weights(runner.detector, weights, filename, partial=not strict)
    runner.logger.info(f"loaded {filename}: {report.summary()}")
    for kind, names in (("the model's, not in", report.missing), ("not the model's, in", report.unexpected)):
        if names:
            runner.logger.warning(f"{kind} {filename}: {', '.join(names)}")
    for key, have, want in report.misshapen:
        runner.logger.warning(f"not loaded from {filename}: {key} is {have}, the model has {want}")
