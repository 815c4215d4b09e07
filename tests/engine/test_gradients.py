"""Accumulated and distributed gradients are those of the one large batch."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from bev.engine import distributed
from tests.engine.runs import largest_difference, last, output, run_here, run_many, start_many
from tests.engine.toy import ToyDetector

# Plain SGD: an error of the gradient's scale shows in full (AdamW would hide it).
SGD = (
    'optim_wrapper.optimizer={"type": "SGD", "lr": 0.05}',
    'param_scheduler=[{"type": "WarmupCosineLR", "warmup": 2}]',
    "train_cfg.max_steps=6",
    "train_cfg.val_interval=3",
    "optim_wrapper.paramwise_cfg=None",
    'default_hooks.scalars={"type": "ScalarLogHook", "interval": 1}',
)


def _batch(frames: int) -> str:
    return f"train_dataloader.batch_size={frames}"


def _accumulate(count: int) -> str:
    return f"optim_wrapper.accumulative_counts={count}"


def test_accumulation_equals_the_large_batch(tmp_path: Path) -> None:
    """Frames have 1 to 3 boxes, so micro-batches of 2 have different counts."""
    want = run_here(tmp_path / "large", *SGD, _batch(8))
    got = run_here(tmp_path / "accumulated", *SGD, _batch(2), _accumulate(4))
    assert largest_difference(want, got) < 1e-6
    assert largest_difference(want, run_here(tmp_path / "small", *SGD, _batch(2))) > 1e-3


def test_without_shared_counts_it_would_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = run_here(tmp_path / "large", *SGD, _batch(8))
    loss = ToyDetector.loss
    monkeypatch.setattr(ToyDetector, "loss", lambda self, batch, avg_factors=None: loss(self, batch, None))
    assert largest_difference(want, run_here(tmp_path / "own", *SGD, _batch(2), _accumulate(4))) > 1e-4


def test_two_processes_equal_one_at_twice_the_batch(tmp_path: Path) -> None:
    """Weights, average, losses and the score of 5 validation frames, which two processes cannot share evenly."""
    want = run_here(tmp_path / "one", *SGD, _batch(8))
    assert run_many(tmp_path / "two", 2, *SGD, _batch(4)) == [0, 0], output(tmp_path / "two")
    got = torch.load(tmp_path / "two" / "step_6.pth", weights_only=True)
    assert largest_difference(want, got) < 1e-6
    assert largest_difference(want, got, "ema_state_dict") < 1e-6
    assert _scalars(tmp_path / "one") == [pytest.approx(line, rel=1e-5) for line in _scalars(tmp_path / "two")]
    assert _scalars(tmp_path / "two")[-1]["toy/distinct"] == _scalars(tmp_path / "two")[-1]["toy/frames"] == 5


def test_two_processes_that_accumulate(tmp_path: Path) -> None:
    want = run_here(tmp_path / "one", *SGD, _batch(8))
    assert run_many(tmp_path / "two", 2, *SGD, _batch(2), _accumulate(2)) == [0, 0], output(tmp_path / "two")
    assert largest_difference(want, torch.load(tmp_path / "two" / "step_6.pth", weights_only=True)) < 1e-6


def test_two_processes_resume_exactly(tmp_path: Path) -> None:
    options = (*SGD, _batch(2), "model.dropout=0.3", "default_hooks.checkpoint.interval=1")
    assert run_many(tmp_path / "a", 2, *options) == [0, 0]
    kill = "train_dataloader.dataset.kill_at=7"
    assert run_many(tmp_path / "b", 2, *options, kill) == [-9, -9]
    assert run_many(tmp_path / "b", 2, *options, resume=True) == [0, 0], output(tmp_path / "b")
    a, b = (torch.load(tmp_path / name / "step_6.pth", weights_only=True) for name in "ab")
    assert largest_difference(a, b) == 0
    assert not torch.equal(a["random_states"][0]["torch"], a["random_states"][1]["torch"])  # dropout differs by rank


def test_signal_to_one_process_stops_both_at_the_same_step(tmp_path: Path) -> None:
    options = ("train_cfg.max_steps=100000", "train_cfg.val_interval=0")
    processes = start_many(tmp_path, 2, *options)
    deadline = time.monotonic() + 300
    while "step 50/" not in output(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(processes[1].pid, signal.SIGTERM)
    for process in processes:
        process.join(300)
    # Each says its own signal's status; the one that was not signalled ends as one whose run is saved.
    assert [process.exitcode for process in processes] == [128 + signal.SIGTERM] * 2, output(tmp_path)
    assert 50 <= last(tmp_path)["meta"]["step"] < 100000


def test_clipping_takes_the_accumulated_gradient(tmp_path: Path) -> None:
    """With a constant rate of 1 and a norm clipped to c, one step moves the weights by c."""
    options = ('optim_wrapper.optimizer={"type": "SGD", "lr": 1.0}', "optim_wrapper.paramwise_cfg=None")
    options = (*options, "param_scheduler=[]", "train_cfg.max_steps=1", _batch(2), _accumulate(3))
    start = run_here(tmp_path / "still", *options, "optim_wrapper.optimizer.lr=0.0")["state_dict"]
    end = run_here(tmp_path / "moved", *options, "optim_wrapper.clip_grad.max_norm=0.01")["state_dict"]
    moved = torch.cat([(end[name] - start[name]).flatten() for name in start]).norm()
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_mean_counts() -> None:
    counts = [{"a": torch.tensor(1.0), "b": torch.tensor(4.0)}, {"a": torch.tensor(2.0), "b": torch.tensor(0.0)}]
    assert distributed.mean_counts(counts) == {"a": torch.tensor(1.5), "b": torch.tensor(2.0)}
    assert distributed.mean_counts([{}, {}]) == {}


def _scalars(work_dir: Path) -> list[dict[str, float]]:
    own = ("step_s", "data_share", "memory_mib", "mode")  # of the process, not of the run
    lines = [json.loads(line) for line in (work_dir / "scalars.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in own} for line in lines]
