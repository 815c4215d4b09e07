"""A network that lost channels: trained, resumed, tested and exported with the configuration of the whole one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from bev.deploy.build import load_detector
from bev.engine import prepare, train
from bev.engine.api import test as run_test
from bev.engine.hooks.channel_pruning import prune_channels
from bev.engine.runner import Runner
from bev.io.checkpoint import CheckpointError, load_checkpoint, load_weights
from bev.io.narrow import NARROWED
from bev.registry import MODELS, ConfigError
from tests.engine.pictures import squares_config, write_squares
from tests.engine.runs import assert_same_state, last
from tests.engine.test_averaging import StopAfter
from tests.engine.toy import ToyDetector

pytest.importorskip("torch_pruning")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares") / "voc", count=4)


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work folder of the unpruned detector."""
    path = tmp_path_factory.mktemp("whole")
    assert train(prepare(config(root, 1), str(path))) == 0
    return path


def config(root: Path, steps: int, *hooks: Any) -> Config:
    cfg = squares_config(root)
    cfg.train_cfg, cfg.custom_hooks = {"max_steps": steps, "val_interval": 0}, list(hooks)
    return cfg


def test_a_narrower_network_passes_every_door(root: Path, whole: Path, tmp_path: Path) -> None:
    hooks = {"type": "ChannelPruningHook", "checkpoint": str(whole)}, {"type": "EMAHook", "decay": 0.5}
    assert train(prepare(config(root, 3, *hooks), str(tmp_path / "slim"))) == 0
    state = last(tmp_path / "slim")
    sizes = [sum(v.numel() for v in s["state_dict"].values()) for s in (last(whole), state)]
    assert 0.35 * sizes[0] < sizes[1] < 0.7 * sizes[0]
    assert NARROWED in state["state_dict"] and NARROWED in state["ema_state_dict"]
    cut = Runner(prepare(config(root, 3, *hooks), str(tmp_path / "cut")))
    cut.register_hook(StopAfter(2))
    cut.train()
    assert train(prepare(config(root, 3, *hooks), str(tmp_path / "cut"), resume=True)) == 0
    assert_same_state(state, last(tmp_path / "cut"))
    assert 0 <= run_test(prepare(config(root, 3), str(tmp_path / "test")), str(tmp_path / "slim"))["AP"] <= 1
    model: Any = load_detector(config(root, 3), tmp_path / "slim")
    assert sum(p.numel() for p in model.parameters()) < 0.7 * sizes[0]
    further = config(root, 2, hooks[1])
    further.load_from = str(tmp_path / "slim" / "step_3.pth")
    assert train(prepare(further, str(tmp_path / "further"))) == 0
    learned = last(tmp_path / "further")["state_dict"]
    assert [v.shape for v in learned.values()] == [v.shape for v in state["state_dict"].values()]
    moved = [name for name, value in learned.items() if not torch.equal(value, state["ema_state_dict"][name])]
    assert len(moved) > 0.5 * len(learned), "the optimiser does not hold the narrowed parameters"
    images = torch.rand(1, 3, 64, 64) * 255
    plain: Any = load_detector(config(root, 3), whole)
    for kind, maps in plain(images).items():
        assert [value.shape for value in model(images)[kind]] == [value.shape for value in maps]
    with pytest.raises(CheckpointError, match="pruned by channels already"):
        hook = {**hooks[0], "checkpoint": str(tmp_path / "slim")}
        train(prepare(config(root, 3, hook), str(tmp_path / "again")))


def test_the_channels_of_least_weight_go(root: Path) -> None:
    """One channel of the stem is planted small: it is among those that leave."""
    torch.manual_seed(0)
    model: Any = MODELS.build(config(root, 1).model)
    name, conv = next((n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        conv.weight.add_(conv.weight.sign())  # all others are far from zero
        conv.weight[2] *= 1e-6
    first = conv.weight.detach().clone()
    prune_channels(model, 0.25)
    rows = {tuple(row.flatten().tolist()) for row in conv.weight}
    left = [tuple(row.flatten().tolist()) in rows for row in first]
    assert not left[2] and sum(left) == len(conv.weight) < len(first), name


def test_shapes_of_another_network_stay_an_error(root: Path, whole: Path) -> None:
    """Only weights that say that they are narrowed change a network, and only in their channels."""
    weights = load_checkpoint(whole / "step_1.pth")["state_dict"]
    key = next(name for name, value in weights.items() if value.ndim == 4)
    other = {**weights, key: weights[key][:-1]}
    with pytest.raises(CheckpointError, match="wrong shape"):
        load_weights(MODELS.build(config(root, 1).model), other, "other.pth")
    missing = {name: value for name, value in weights.items() if name != key}
    with pytest.raises(CheckpointError, match="missing"):
        load_weights(MODELS.build(config(root, 1).model), {**missing, NARROWED: torch.tensor(1)}, "other.pth")


@pytest.mark.parametrize("change, message", [
    (dict(ratio=1.2), "ratio 1.2"), (dict(keep=["nothing.*"]), "no layer fits 'nothing"),
    (dict(checkpoint="none.pth"), "none.pth does not exist"),
])  # fmt: skip
def test_mistakes_are_named(root: Path, whole: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    hook = {"type": "ChannelPruningHook", "checkpoint": str(whole), **change}
    with pytest.raises((ConfigError, CheckpointError), match=message):
        train(prepare(config(root, 1, hook), str(tmp_path)))


def test_other_detectors_are_refused() -> None:
    with pytest.raises(ConfigError, match="not a ToyDetector"):
        prune_channels(ToyDetector(), 0.5)
