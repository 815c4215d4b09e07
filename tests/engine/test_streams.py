"""Temporal detectors in the engine: memory from step to step, from frame to frame in validation, through a resume."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from bev.engine.data import build_dataloader, stream
from bev.io.checkpoint import load_checkpoint, save_checkpoint
from bev.models.detectors import FrameStream
from tests.engine.runs import assert_same_state, last, run_elsewhere, run_here, run_many
from tests.engine.toy_temporal import ToyMemory, ToyRecordings
from tests.paths import REPO_ROOT

CONFIG = REPO_ROOT / "tests" / "engine" / "toy_temporal_config.py"
HARD = ("model.dropout=0.3", "optim_wrapper.accumulative_counts=3", "default_hooks.checkpoint.interval=1")
HARD += ("train_dataloader.sampler.turns=2",)


def _validated(work_dir: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (work_dir / "scalars.jsonl").read_text().splitlines()]
    return [row for row in rows if row["mode"] == "val"]


@pytest.mark.parametrize("turns", [1, 2])
def test_training_carries_the_memory_from_step_to_step(tmp_path: Path, turns: int) -> None:
    """The weights after 12 steps are those of a loop written out by hand, and not those without a memory."""
    options = ("optim_wrapper.optimizer.type=SGD", "optim_wrapper.clip_grad=None", "param_scheduler=[]")
    options += ("custom_hooks=[]", "optim_wrapper.optimizer.lr=0.01", "optim_wrapper.optimizer.weight_decay=0")
    options += (f"train_dataloader.sampler.turns={turns}",)
    trained = run_here(tmp_path / "run", *options, config=CONFIG)["state_dict"]
    for carried in (True, False):
        torch.manual_seed(0)
        model = ToyMemory().train()
        cfg = dict(dataset=ToyRecordings(), batch_size=2, sampler=dict(type="SceneStreamSampler", turns=turns))
        batches = stream(build_dataloader(cfg, "train_dataloader", seed=0, train=True), 0)
        optimizer, memory = torch.optim.SGD(model.parameters(), lr=0.01), FrameStream(model, turns)
        for _, batch in zip(range(12), batches):
            optimizer.zero_grad()
            sum((memory if carried else model).loss(batch).values()).backward()
            optimizer.step()
        same = [torch.allclose(value, trained[name], atol=1e-6) for name, value in model.state_dict().items()]
        assert all(same) == carried
        assert memory.continued > 10 or not carried


@pytest.mark.parametrize("kills", [(31, 7)])
def test_a_run_killed_in_the_middle_of_recordings_resumes_bit_for_bit(tmp_path: Path, kills: tuple[int, ...]) -> None:
    unbroken = run_here(tmp_path / "unbroken", *HARD, config=CONFIG)
    for read in kills:
        kill = f"train_dataloader.dataset.kill_at={read}"
        assert run_elsewhere(tmp_path / "killed", *HARD, kill, resume=True, config=CONFIG) == -signal.SIGKILL
    assert_same_state(run_here(tmp_path / "killed", *HARD, resume=True, config=CONFIG), unbroken)


def test_without_its_memory_a_checkpoint_starts_recordings_anew_and_says_so(tmp_path: Path) -> None:
    run_here(tmp_path, *HARD, "train_cfg.max_steps=5", config=CONFIG)
    checkpoint = load_checkpoint(tmp_path / "step_5.pth")
    del checkpoint["stream_states"]
    save_checkpoint(checkpoint, tmp_path / "step_5.pth")
    assert last(tmp_path)["meta"]["step"] == 5
    assert run_elsewhere(tmp_path, *HARD, "train_cfg.max_steps=7", resume=True, config=CONFIG) == 0
    assert "recordings that are under way continue without their past" in (tmp_path / "output_0.txt").read_text()


@pytest.mark.parametrize("options", [(), ("val_dataloader.batch_size=4",), ("val_dataloader.num_workers=2",)])
def test_validation_walks_through_recordings(tmp_path: Path, options: tuple[str, ...]) -> None:
    run_here(tmp_path, "train_cfg.max_steps=2", "train_cfg.val_interval=1", *options, config=CONFIG)
    for scores in _validated(tmp_path):
        assert scores["toy/frames"] == scores["toy/right"] == 20


def test_validation_in_two_processes_is_that_of_one(tmp_path: Path) -> None:
    options = ("train_cfg.max_steps=2", "train_cfg.val_interval=1", "train_dataloader.batch_size=1")
    assert run_many(tmp_path / "two", 2, *options, config=CONFIG) == [0, 0]
    run_here(tmp_path / "one", "train_cfg.max_steps=2", "train_cfg.val_interval=1", config=CONFIG)
    two, one = _validated(tmp_path / "two"), _validated(tmp_path / "one")
    for ours, theirs in zip(two, one, strict=True):
        assert ours["toy/right"] == 20
        assert ours["toy/sum"] == pytest.approx(theirs["toy/sum"], abs=1e-4)


def test_validation_leaves_training_streams_alone(tmp_path: Path) -> None:
    quiet = run_here(tmp_path / "quiet", *HARD, config=CONFIG)
    assert_same_state(run_here(tmp_path / "watched", *HARD, "train_cfg.val_interval=1", config=CONFIG), quiet)


def test_frames_that_stand_alone_are_named(tmp_path: Path) -> None:
    options = ("train_cfg.max_steps=1", "train_cfg.val_interval=1", "val_dataloader.sampler.type=EvalSampler")
    assert run_elsewhere(tmp_path, *options, config=CONFIG) == 0
    assert "every frame of val stood alone" in (tmp_path / "output_0.txt").read_text()
    assert _validated(tmp_path)[0]["toy/right"] == 5  # the five first frames
