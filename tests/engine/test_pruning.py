"""Zeros through the training command's own path: schedule, averages, checkpoints, resumed runs, beside a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bev.engine import load_config, prepare
from bev.engine.hooks.pruning import _packed, _unpacked, grown_masks, sparsity_at
from bev.engine.runner import Runner
from bev.io.checkpoint import CheckpointError, save_checkpoint
from bev.registry import ConfigError
from tests.engine.runs import CONFIG, assert_same_state, run_here
from tests.engine.test_averaging import StopAfter

SHORT = ("train_cfg.max_steps=12", "train_cfg.val_interval=0", "optim_wrapper.optimizer.lr=0.05")
HOOK = {"type": "PruningHook", "sparsity": 0.5, "end": 0.5, "updates": 4}


def zeros(state: dict[str, Tensor]) -> float:
    weights = [value for value in state.values() if value.ndim > 1]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def options(*hooks: Any, **change: Any) -> tuple[str, ...]:
    return (*SHORT, f"custom_hooks={[{**HOOK, **change}, *hooks]}")


def test_the_schedule_is_cubic() -> None:
    """Zhu and Gupta's equation 1 with an initial sparsity of 0."""
    assert [sparsity_at(share, 0.8) for share in (-1, 0, 1, 2)] == pytest.approx([0, 0, 0.8, 0.8])
    assert sparsity_at(0.5, 0.8) == pytest.approx(0.8 - 0.8 * 0.5**3)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_weights_and_their_average_reach_the_sparsity(tmp_path: Path, scope: str) -> None:
    state = run_here(tmp_path, *options({"type": "EMAHook", "decay": 0.9}, scope=scope))
    for part in ("state_dict", "ema_state_dict"):
        assert zeros(state[part]) == pytest.approx(0.5, abs=0.03)
    for name, packed in state["pruning"].items():
        for part in ("state_dict", "ema_state_dict"):
            assert torch.equal(state[part][name] != 0, _unpacked(packed, state[part][name]))
    if scope == "layer":
        assert all((state["state_dict"][n] == 0).float().mean() > 0.4 for n in ("backbone.weight", "head.weight"))


def test_what_is_left_still_learns(tmp_path: Path) -> None:
    early = run_here(tmp_path / "a", *options(), "train_cfg.max_steps=7")["state_dict"]["backbone.weight"]
    late = run_here(tmp_path / "b", *options())["state_dict"]["backbone.weight"]
    kept = late != 0
    assert kept.any() and not torch.equal(early[kept], late[kept])


def test_a_resumed_run_prunes_the_same(tmp_path: Path) -> None:
    """Cut while masks grow: nothing tells the two runs apart."""
    chosen = options({"type": "EMAHook", "decay": 0.9}, end=0.8)
    whole = run_here(tmp_path / "whole", *chosen)
    runner = Runner(prepare(load_config(CONFIG, chosen), str(tmp_path / "cut")))
    runner.register_hook(StopAfter(5))
    runner.train()
    again = run_here(tmp_path / "cut", *chosen, resume=True)
    assert_same_state(whole, again)
    assert all(torch.equal(again["pruning"][name], mask) for name, mask in whole["pruning"].items())
    with pytest.raises(CheckpointError, match="other layers"):
        run_here(tmp_path / "cut", *options(keep=["head"]), resume=True)


def test_zeros_of_a_pruned_network_stay(tmp_path: Path) -> None:
    pruned = run_here(tmp_path / "a", *options())["state_dict"]
    save_checkpoint({"state_dict": pruned}, tmp_path / "pruned.pth")
    state = run_here(tmp_path / "b", *options(sparsity=None), f"load_from={tmp_path / 'pruned.pth'}")["state_dict"]
    for name in ("backbone.weight", "head.weight"):
        assert torch.equal(state[name] == 0, pruned[name] == 0) and not torch.equal(state[name], pruned[name])


def test_a_pruned_student_learns_from_a_teacher(tmp_path: Path) -> None:
    run_here(tmp_path / "teacher", *SHORT)
    term = {"type": "FeatureDistillation", "student": "backbone", "student_channels": 8, "teacher_channels": 8}
    teacher = {"config": str(CONFIG), "checkpoint": str(tmp_path / "teacher")}
    state = run_here(tmp_path / "student", *options({"type": "DistillationHook", "teacher": teacher, "terms": [term]}))
    assert zeros(state["state_dict"]) == pytest.approx(0.5, abs=0.03) and state["distillation"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 0.9), st.booleans())
def test_masks_only_grow(seed: int, sparsity: float, together: bool) -> None:
    torch.manual_seed(seed)
    weights = {"a": nn.Parameter(torch.randn(6, 5)), "b": nn.Parameter(10 * torch.randn(4, 3, 3, 3))}
    masks: dict[str, Tensor] = {}
    for share in (0.3, 0.6, 1.0):
        before, masks = masks, grown_masks(weights, sparsity_at(share, sparsity), masks, together, 0.95)
        assert all(not (masks[name] & ~before[name]).any() for name in before)
        with torch.no_grad():
            for name, mask in masks.items():
                weights[name].mul_(mask)
    left = sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    assert 1 - left == pytest.approx(sparsity, abs=0.04)
    assert all(mask.any() for mask in masks.values())
    assert torch.equal(_unpacked(_packed(masks["b"]), weights["b"]), masks["b"])


@pytest.mark.parametrize("change, message", [
    (dict(sparsity=1.5), "sparsity 1.5 must be within"),
    (dict(begin=0.6), "begin 0.6 < end 0.5"),
    (dict(scope="all"), "scope 'all'"),
    (dict(keep=["neck.*"]), "no layer fits 'neck"),
    (dict(keep=["*"]), "no layer of ToyDetector is left"),
])  # fmt: skip
def test_mistakes_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_here(tmp_path, *options(**change))
