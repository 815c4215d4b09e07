"""Mixed precision, the moving average, schedules and parameter groups, hooks of mmengine."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from torch import nn

from bev import engine
from bev.engine import load_config, prepare
from bev.engine.runner import Runner
from bev.engine.schedule import parameter_groups
from bev.io.checkpoint import load_checkpoint, load_weights
from bev.registry import HOOKS, ConfigError
from tests.engine.runs import CONFIG, largest_difference, last, run_here
from tests.engine.toy import ToyDetector


@HOOKS.register_module()
class WeightRecorder(Hook):
    """Keeps a copy of the weights after every step, and of the average that is validated."""

    priority = "VERY_LOW"
    records: list[dict[str, torch.Tensor]] = []
    validated: list[dict[str, torch.Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        self.records[:], self.validated[:] = [self._copy(runner)], []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.records.append(self._copy(runner))

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        self.validated.append(self._copy(runner))

    @staticmethod
    def _copy(runner: Runner) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in runner.detector.state_dict().items()}


def test_average_follows_its_formula_and_is_what_is_validated(tmp_path: Path) -> None:
    hooks = '[{"type": "EMAHook", "decay": 0.9, "ramp_steps": 5}, {"type": "WeightRecorder"}]'
    state = run_here(tmp_path, f"custom_hooks={hooks}", "model.batch_norm=true", "optim_wrapper.optimizer.lr=0.01")
    average = {name: value.double() for name, value in WeightRecorder.records[0].items()}
    for step, weights in enumerate(WeightRecorder.records[1:], start=1):
        decay = 0.9 * (1 - math.exp(-step / 5))
        for name, value in weights.items():
            copied = "num_batches" in name
            average[name] = value.double() if copied else decay * average[name] + (1 - decay) * value.double()
    for name, value in state["ema_state_dict"].items():
        torch.testing.assert_close(value.double(), average[name], rtol=1e-5, atol=1e-6)
        assert torch.equal(value, WeightRecorder.validated[-1][name])
        assert torch.equal(state["state_dict"][name], WeightRecorder.records[-1][name])
    assert largest_difference(state, {"state_dict": state["ema_state_dict"]}) > 1e-4


def test_average_is_what_is_tested_and_loads_into_the_bare_detector(tmp_path: Path) -> None:
    options = ("optim_wrapper.optimizer.lr=0.05", "custom_hooks.0.decay=0.9")
    state = run_here(tmp_path, *options)
    detector = ToyDetector()
    load_weights(detector, state["state_dict"], "checkpoint")
    scores = {}
    for name, weights in (("ema", None), ("raw", state["state_dict"])):
        path = tmp_path / "step_20.pth"
        if weights is not None:
            path = tmp_path / "raw.pth"
            torch.save({"state_dict": weights}, path)
        cfg = prepare(load_config(CONFIG), str(tmp_path / name))
        scores[name] = engine.test(cfg, str(path))["toy/distance"]
    logged = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()][-1]
    assert scores["ema"] == logged["toy/distance"] != scores["raw"]


def test_validation_leaves_no_trace_in_training(tmp_path: Path) -> None:
    options = ("model.dropout=0.5", "model.batch_norm=true")
    often = run_here(tmp_path / "often", *options, "train_cfg.val_interval=1")
    never = run_here(tmp_path / "never", *options, "train_cfg.val_interval=0")
    assert largest_difference(often, never) == 0


def test_mixed_precision_runs_the_forward_pass_in_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    forward = ToyDetector.forward

    def record(self: ToyDetector, *args: object) -> dict[str, torch.Tensor]:
        result = forward(self, *args)  # type: ignore[arg-type]
        seen.append(result["center"].dtype)
        return result

    monkeypatch.setattr(ToyDetector, "forward", record)
    options = ("optim_wrapper.optimizer.lr=0.02", "train_cfg.max_steps=100", "train_cfg.val_interval=0")
    half = run_here(tmp_path / "half", *options, amp=True)
    assert set(seen) == {torch.bfloat16}
    assert all(value.dtype is torch.float32 for value in half["state_dict"].values())
    full = run_here(tmp_path / "full", *options)
    assert 0 < largest_difference(half, full) < 0.2


def test_training_learns(tmp_path: Path) -> None:
    options = ("optim_wrapper.optimizer.lr=0.03", "train_cfg.max_steps=300", "train_dataloader.batch_size=8")
    run_here(tmp_path, *options, "train_cfg.val_interval=100", "train_dataloader.dataset.length=200")
    records = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    distances = [record["toy/distance"] for record in records if record["mode"] == "val"]
    assert distances[-1] < 0.6, "the pictures code the position: an untrained detector is off by 1.2"


def test_length_in_epochs(tmp_path: Path) -> None:
    options = ("train_cfg.max_steps=None", "train_cfg.max_epochs=2", "train_cfg.val_interval=None")
    options = (*options, "train_cfg.val_interval_epochs=1", "train_dataloader.batch_size=4")
    assert run_here(tmp_path, *options)["meta"]["step"] == 5  # 20 frames in batches of 4


@pytest.mark.parametrize(("option", "message"), [
    ("train_cfg.max_steps=None", "exactly one of 'max_steps' and 'max_epochs'"),
    ("param_scheduler.0.warmup=21", "warm-up of 21 does not fit into 20 steps"),
    ("optim_wrapper.paramwise_cfg.custom_keys={'neck': {'lr_mult': 0.1}}", "fits no parameter of ToyDetector"),
    ("optim_wrapper.clip_grad.max_nrm=1", "did you mean 'max_norm'"),
    ("optim_wrapper.paramwise_cfg.norm_deca_mult=0", "did you mean 'norm_decay_mult'"),
    ("optim_wrapper.accumulative_counts=0", "expected at least 1"),
    ("launcher=slurm", "valid: none, pytorch"),
])  # fmt: skip
def test_wrong_values(tmp_path: Path, option: str, message: str) -> None:
    cfg = load_config(CONFIG)
    if option.startswith("optim_wrapper.paramwise_cfg.custom_keys"):
        cfg.optim_wrapper.paramwise_cfg = {"custom_keys": {"neck": {"lr_mult": 0.1}}}
    else:
        cfg = load_config(CONFIG, [option])
    cfg.work_dir = str(tmp_path)
    with pytest.raises(ConfigError, match=message):
        Runner(cfg).train()


def test_schedule(tmp_path: Path) -> None:
    """Rates of steps 1..20 with 5 warm-up steps, as used: the scalar log has the rate of the step just made."""
    options = ("param_scheduler.0.warmup=0.25", "optim_wrapper.optimizer.lr=1.0")
    run_here(tmp_path, *options, "default_hooks.scalars.interval=1")
    records = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    rates = [record["lr"] for record in records if record["mode"] == "train"]
    want = [0.01 + 0.99 * t / 5 for t in range(5)]
    want += [0.01 + 0.99 * (1 + math.cos(math.pi * t / 15)) / 2 for t in range(15)]
    assert rates == pytest.approx(want)


def test_schedule_of_a_run_made_longer(tmp_path: Path) -> None:
    """Resumed at step 4 of what is now 20: the rates go on along the longer curve, not at the end of the short one."""
    options = ("default_hooks.scalars.interval=1", "train_cfg.val_interval=0", "param_scheduler.0.warmup=0")
    run_here(tmp_path / "a", *options)
    run_here(tmp_path / "b", *options, "train_cfg.max_steps=4")
    run_here(tmp_path / "b", *options, resume=True)
    rates = []
    for name in "ab":
        records = [json.loads(line) for line in (tmp_path / name / "scalars.jsonl").read_text().splitlines()]
        rates.append([record["lr"] for record in records])
    assert rates[0][5:] == pytest.approx(rates[1][5:])
    assert rates[0][3] != pytest.approx(rates[1][3], rel=0.1)


def test_parameter_groups() -> None:
    model = nn.ModuleDict({
        "backbone": nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1), "norm": nn.BatchNorm2d(4)}),
        "head": nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 1)),
    })  # fmt: skip
    model["head"][2].weight.requires_grad_(False)
    paramwise = {"custom_keys": {"backbone": {"lr_mult": 0.1}}, "norm_decay_mult": 0.0, "bias_decay_mult": 0.5}
    groups = parameter_groups(model, {"type": "AdamW", "lr": 2.0, "weight_decay": 4.0}, paramwise)
    settings = {(g.get("lr", 2.0), g.get("weight_decay", 4.0)): len(g["params"]) for g in groups}
    # backbone: 4 tensors; head: one trainable weight, two biases, two of the norm
    assert settings == {(0.2, 4.0): 4, (2.0, 4.0): 1, (2.0, 2.0): 2, (2.0, 0.0): 2}


def test_hooks_of_mmengine_plug_in(tmp_path: Path) -> None:
    """Early stopping (reads metrics, stops the loop), timing, the message hub, and mmengine's own average."""
    assert "EarlyStoppingHook" in MMENGINE_HOOKS.module_dict
    hooks = [
        {"type": "EarlyStoppingHook", "monitor": "toy/distance", "rule": "less", "patience": 1, "min_delta": 10.0},
        {"type": "mmengine.RuntimeInfoHook"},
        {"type": "IterTimerHook", "priority": "NORMAL"},
        {"type": "mmengine.EMAHook", "momentum": 0.1},
    ]
    state = run_here(tmp_path, f"custom_hooks={hooks}", "train_cfg.val_interval=2", "train_cfg.max_steps=20")
    assert state["meta"]["step"] == 4
    assert set(state["state_dict"]) == set(ToyDetector().state_dict())
    assert load_checkpoint(tmp_path / "step_4.pth")["meta"]["max_steps"] == 20
    assert last(tmp_path)["meta"]["step"] == 4
