"""A run killed at any moment and resumed ends as one that was never killed, bit for bit."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from bev.io.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from tests.engine.runs import assert_same_state, last, output, run_elsewhere, run_here, start

# Everything that has state: dropout, running statistics, accumulation, the moving average, the schedule.
HARD = ("model.dropout=0.3", "model.batch_norm=true", "optim_wrapper.accumulative_counts=3")
EVERY_STEP = ("default_hooks.checkpoint.interval=1",)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("unbroken")
    run_here(work_dir, *HARD, *EVERY_STEP, "default_hooks.checkpoint.max_keep_ckpts=0")
    return work_dir


def _kill_at(read: int) -> str:
    return f"train_dataloader.dataset.kill_at={read}"


@pytest.mark.parametrize("kills", [(0,), (16,), (27, 8), (5, 6, 7, 100), (119,)])
def test_killed_while_reading(tmp_path: Path, unbroken: Path, kills: tuple[int, ...]) -> None:
    """A step reads 6 frames in 3 micro-batches, so most of these kills fall in the middle of an accumulation."""
    for read in kills:
        # Evaluation reads from another data set object, so this counts training frames of this process alone.
        assert run_elsewhere(tmp_path, *HARD, *EVERY_STEP, _kill_at(read), resume=True) == -signal.SIGKILL
    assert_same_state(run_here(tmp_path, *HARD, *EVERY_STEP, resume=True), last(unbroken))


@pytest.mark.parametrize("how", ["writing_second_checkpoint", "before_second_rename", "before_second_pointer"])
def test_killed_while_saving(tmp_path: Path, unbroken: Path, how: str) -> None:
    assert run_elsewhere(tmp_path, *HARD, *EVERY_STEP, before=f"die_{how}") == -signal.SIGKILL
    assert last(tmp_path)["meta"]["step"] == 1
    assert_same_state(run_here(tmp_path, *HARD, *EVERY_STEP, resume=True), last(unbroken))
    assert not list(tmp_path.glob("*.tmp"))


def test_killed_at_random_moments(tmp_path: Path, unbroken: Path) -> None:
    rng = random.Random(0)
    for _ in range(6):
        process = start(tmp_path, *HARD, *EVERY_STEP, resume=True)
        deadline = time.monotonic() + 300
        while "training 20 steps" not in output(tmp_path) and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        process.join(300)
    assert_same_state(run_here(tmp_path, *HARD, *EVERY_STEP, resume=True), last(unbroken))


def test_mixed_precision_and_epoch_schedules_resume(tmp_path: Path) -> None:
    """A border of an epoch (5 steps) is a border of steps too: the schedule by epochs has moved before the save."""
    options = (*EVERY_STEP, 'param_scheduler=[{"type": "MultiStepLR", "milestones": [1, 2], "by_epoch": True}]')
    want = run_here(tmp_path / "a", *options, amp=True)
    assert want["optimizer"]["param_groups"][0]["lr"] == pytest.approx(2e-6)
    for read in (10, 11):
        run_elsewhere(tmp_path / "b", *options, _kill_at(read), resume=True, amp=True)
    assert_same_state(run_here(tmp_path / "b", *options, resume=True, amp=True), want)


def test_number_of_workers_does_not_matter(tmp_path: Path, unbroken: Path) -> None:
    run_elsewhere(tmp_path, *HARD, *EVERY_STEP, _kill_at(40))
    state = run_here(tmp_path, *HARD, *EVERY_STEP, "train_dataloader.num_workers=2", resume=True)
    assert_same_state(state, last(unbroken))


def test_checkpoint_by_path(tmp_path: Path, unbroken: Path) -> None:
    state = run_here(tmp_path, *HARD, *EVERY_STEP, resume=str(unbroken / "step_7.pth"))
    assert_same_state(state, last(unbroken))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_finish_the_step_and_save(tmp_path: Path, unbroken: Path, number: signal.Signals) -> None:
    """No checkpoint but the signal's own: the signal comes in the middle of step 5."""
    at = (_kill_at(26), f"train_dataloader.dataset.kill_with={int(number)}")
    assert run_elsewhere(tmp_path, *HARD, "default_hooks.checkpoint.interval=100", *at) == 128 + number
    text = output(tmp_path)
    assert f"stopped by {number.name} after step 5 of 20" in text and f"--work-dir {tmp_path} --resume" in text
    assert last(tmp_path)["meta"]["step"] == 5
    assert_same_state(run_here(tmp_path, *HARD, *EVERY_STEP, resume=True), last(unbroken))


def test_signal_during_validation(tmp_path: Path, unbroken: Path) -> None:
    """The validation is left, the average taken out of the weights' place, and both are made up for later."""
    at = ("val_dataloader.dataset.kill_at=3", f"val_dataloader.dataset.kill_with={int(signal.SIGTERM)}")
    assert run_elsewhere(tmp_path, *HARD, *at) == 128 + signal.SIGTERM
    assert last(tmp_path)["meta"]["step"] == 10
    assert_same_state(run_here(tmp_path, *HARD, *EVERY_STEP, resume=True), last(unbroken))
    records = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r["mode"] == "val"] == [10, 20]


def test_nothing_to_resume_starts_afresh_and_says_so(tmp_path: Path) -> None:
    run_elsewhere(tmp_path, resume=True)
    assert f"nothing to resume in {tmp_path}; starting from step 0" in output(tmp_path)
    assert last(tmp_path)["meta"]["step"] == 20


def test_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    run_here(tmp_path, "default_hooks.checkpoint.interval=3", "default_hooks.checkpoint.max_keep_ckpts=2")
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["step_18.pth", "step_20.pth"]
    assert (tmp_path / "last_checkpoint").read_text().strip() == "step_20.pth"


def test_log_of_a_resumed_run_has_no_step_twice(tmp_path: Path) -> None:
    options = (*EVERY_STEP, "default_hooks.scalars.interval=1", "train_cfg.val_interval=4")
    run_elsewhere(tmp_path, *options, _kill_at(17))
    with open(tmp_path / "scalars.jsonl", "a") as file:
        file.write('{"mode": "train", "step": 9, "lo')  # cut short by the kill
    run_here(tmp_path, *options, resume=True)
    records = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r["mode"] == "train"] == list(range(1, 21))
    assert [r["step"] for r in records if r["mode"] == "val"] == [4, 8, 12, 16, 20]


def test_validation_lost_to_a_kill_is_made_up_for(tmp_path: Path) -> None:
    """Killed in the validation of step 10, after that step's checkpoint."""
    options = ("default_hooks.checkpoint.interval=10", "default_hooks.checkpoint.max_keep_ckpts=0")
    assert run_elsewhere(tmp_path, *options, "val_dataloader.dataset.kill_at=3") == -signal.SIGKILL
    assert last(tmp_path)["meta"]["step"] == 10
    run_here(tmp_path, *options, resume=True)
    records = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r["mode"] == "val"] == [10, 20]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train_dataloader.batch_size=4", "frames_per_step 2, this one has 4"),
        ("train_dataloader.dataset.length=11", "dataset_length 10, this one has 11"),
        ("seed=5", "seed 0, this one has 5"),
        ("model.channels=4", "is of another model than ToyDetector"),
        ("optim_wrapper.paramwise_cfg.bias_decay_mult=1.0", "optimiser's state does not fit"),
        ("param_scheduler=[]", "has 1 schedules, this run has 0"),
    ],
)
def test_checkpoint_of_another_run(tmp_path: Path, unbroken: Path, option: str, message: str) -> None:
    run_here(tmp_path, *EVERY_STEP, "train_cfg.max_steps=2")
    with pytest.raises(CheckpointError, match=message):
        run_here(tmp_path, *EVERY_STEP, option, resume=True)


def test_weights_alone_cannot_be_resumed(tmp_path: Path, unbroken: Path) -> None:
    weights = {"state_dict": last(unbroken)["state_dict"]}
    save_checkpoint(weights, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="does not hold the state of a run"):
        run_here(tmp_path / "run", resume=str(tmp_path / "weights.pth"))


def test_pointer_to_a_missing_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "last_checkpoint").write_text("step_7.pth\n")
    with pytest.raises(CheckpointError, match="step_7.pth, which does not exist"):
        run_here(tmp_path, resume=True)


def test_fine_tuning_loads_what_fits_and_lists_the_rest(tmp_path: Path, unbroken: Path) -> None:
    weights = dict(last(unbroken)["state_dict"])
    weights["head.weight"] = torch.zeros(7, 8)
    weights["other.bias"] = torch.zeros(2)
    save_checkpoint({"state_dict": weights}, tmp_path / "weights.pth")
    options = ("train_cfg.max_steps=1", "optim_wrapper.optimizer.lr=0.0", f"load_from={tmp_path / 'weights.pth'}")
    assert run_elsewhere(tmp_path / "run", *options) == 0
    text = output(tmp_path / "run")
    assert "3 of the model's 4 keys match" in text
    assert "head.weight is (7, 8), the model has (3, 8)" in text and "other.bias" in text
    assert torch.equal(last(tmp_path / "run")["state_dict"]["backbone.weight"], weights["backbone.weight"])
    save_checkpoint({"state_dict": {"a.b": torch.zeros(1)}}, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match="0 of the model's 4 keys match"):
        run_here(tmp_path / "run2", f"load_from={tmp_path / 'foreign.pth'}")
    assert load_checkpoint(tmp_path / "foreign.pth")
