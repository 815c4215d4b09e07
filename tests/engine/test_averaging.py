"""Stochastic weight averaging, its schedule, and batch norms that stay as they are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from bev import engine
from bev.engine import load_config, prepare
from bev.engine.data import build_dataloader, stream
from bev.engine.frozen import freeze_norms
from bev.engine.hooks.swa import estimate_statistics
from bev.engine.runner import Runner
from bev.engine.schedule import cycle_borders
from bev.io.checkpoint import load_weights, weights_of
from bev.registry import ConfigError
from tests.engine.runs import CONFIG, assert_same_state, largest_difference, last, run_here
from tests.engine.test_training import WeightRecorder
from tests.engine.toy import ToyDetector

SWA = {"type": "SWAHook", "start": 0.5, "updates": 3, "bn_batches": 4}
OPTIONS = ("model.batch_norm=true", "optim_wrapper.optimizer.lr=0.05", "param_scheduler.0.cycles=3")
OPTIONS = (*OPTIONS, "param_scheduler.0.cycle_start=0.5", "train_dataloader.batch_size=4")


def test_the_mean_of_the_cycles_ends_is_what_is_validated_saved_and_tested(tmp_path: Path) -> None:
    state = run_here(tmp_path, *OPTIONS, f"custom_hooks={[SWA, {'type': 'WeightRecorder'}]}")
    assert cycle_borders(20, 0.5, 3) == [10, 13, 17, 20]
    detector = ToyDetector(batch_norm=True)
    mean = {}
    for name in state["state_dict"]:
        ends = torch.stack([WeightRecorder.records[step][name].double() for step in (13, 17, 20)])
        mean[name] = ends.mean(0).to(state["state_dict"][name].dtype)
    detector.load_state_dict(mean)
    # Its batch norms see the first batches of the run.
    cfg = load_config(CONFIG, OPTIONS)
    batches = stream(build_dataloader(cfg.train_dataloader, "train_dataloader", 0, train=True), 0)
    estimate_statistics(detector.train(), [next(batches) for _ in range(4)])
    found = state["swa_state_dict"]
    for name, value in detector.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
        assert torch.equal(found[name], WeightRecorder.validated[-1][name])
        # At step 10 nothing is averaged yet: the weights themselves are validated.
        assert torch.equal(WeightRecorder.records[10][name], WeightRecorder.validated[0][name])
    assert not torch.allclose(found["norm.running_mean"], mean["norm.running_mean"], atol=1e-4)
    assert state["swa_updates"] == 3 and largest_difference(state, {"state_dict": found}) > 1e-4
    assert torch.equal(weights_of(state, "x")["head.weight"], found["head.weight"])
    score = engine.test(prepare(load_config(CONFIG, OPTIONS), str(tmp_path / "test")), str(tmp_path))
    logged = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()][-1]
    assert score["toy/distance"] == logged["toy/distance"]


class StopAfter(Hook):
    """Ends a run early, saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        runner.train_loop.stop_training = batch_idx + 1 == self.step


@pytest.mark.parametrize("step", [8, 14])
def test_a_resumed_run_has_the_same_mean(tmp_path: Path, step: int) -> None:
    """Before the first moment, and between two; the new estimate leaves no trace in the random numbers."""
    options = (*OPTIONS, "model.dropout=0.5", f"custom_hooks={[SWA]}", "train_cfg.val_interval=0")
    whole = run_here(tmp_path / "whole", *options)
    runner = Runner(prepare(load_config(CONFIG, options), str(tmp_path / "cut")))
    runner.register_hook(StopAfter(step))
    runner.train()
    assert last(tmp_path / "cut")["meta"]["step"] == step
    assert_same_state(whole, run_here(tmp_path / "cut", *options, resume=True))


def test_rates_of_the_cycles(tmp_path: Path) -> None:
    options = ("param_scheduler.0.warmup=0.1", "param_scheduler.0.cycles=2", "param_scheduler.0.cycle_start=0.6")
    options = (*options, "optim_wrapper.optimizer.lr=1.0", "default_hooks.scalars.interval=1")
    run_here(tmp_path, *options, "param_scheduler.0.cycle_ratio=0.5", "train_cfg.val_interval=0")
    rates = [json.loads(line)["lr"] for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    want = [0.01, 0.505]
    want += [0.01 + 0.99 * (1 + math.cos(math.pi * t / 10)) / 2 for t in range(10)]
    want += [0.01 + 0.49 * (1 + math.cos(math.pi * t / 4)) / 2 for t in range(4)] * 2
    assert rates == pytest.approx(want)


def test_frozen_norms_stay_and_the_rest_learns(tmp_path: Path) -> None:
    cfg = load_config(CONFIG, [*OPTIONS, "param_scheduler.0.cycles=0"])
    cfg.frozen_norms = ["norm"]
    runner = Runner(prepare(cfg, str(tmp_path)))
    before = {name: value.clone() for name, value in runner.detector.state_dict().items()}
    runner.train()
    after = runner.detector.state_dict()
    assert list(after) == list(before) == list(ToyDetector(batch_norm=True).state_dict())
    assert all(torch.equal(after[name], before[name]) == name.startswith("norm.") for name in after)
    taught = sum(len(group["params"]) for group in runner.optim_wrapper.optimizer.param_groups)
    assert taught == 4 and not runner.detector.norm.training and runner.detector.head.training
    load_weights(ToyDetector(batch_norm=True), last(tmp_path)["state_dict"], "checkpoint")


def test_what_cannot_be_averaged_or_frozen_is_named(tmp_path: Path) -> None:
    cases = {
        f"custom_hooks={[SWA, {'type': 'EMAHook'}]}": "EMAHook and SWAHook|SWAHook and EMAHook",
        f"custom_hooks={[{**SWA, 'updates': 30}]}": "30 updates do not fit",
        f"custom_hooks={[{**SWA, 'start': 1.5}]}": "start 1.5",
        "param_scheduler.0.cycles=30": "30 cycles from 0.75 on do not fit into 20 steps",
        "frozen_norms=['nrm']": "names 'nrm'; parts of ToyDetector: backbone, norm",
        "frozen_norms=['head']": "'head' has no batch norms",
    }
    for number, (option, message) in enumerate(cases.items()):
        with pytest.raises(ConfigError, match=message):
            run_here(tmp_path / str(number), option, "param_scheduler.0.warmup=0")
    assert freeze_norms(ToyDetector(batch_norm=True), [""]) == 1
