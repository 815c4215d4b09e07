"""A teacher beside the student: through the training command's own path, resumed, in two processes, in 2D and 3D."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bev.engine import load_config, prepare
from bev.engine.distillation import Distillation
from bev.engine.infer import build_detector
from bev.engine.runner import Runner
from bev.io.checkpoint import CheckpointError, load_checkpoint, load_weights, weights_of
from bev.models.losses.distillation import FeatureDistillation, MapDistillation
from bev.registry import MODELS, ConfigError
from tests.engine.pictures import CONFIG as SQUARES
from tests.engine.pictures import squares_config, write_squares
from tests.engine.runs import CONFIG, assert_same_state, last, run_here, run_many
from tests.engine.test_averaging import StopAfter
from tests.engine.toy import ToyDetector
from tests.models.rigs import random_batch
from tests.paths import REPO_ROOT

SHORT = ("train_cfg.max_steps=8", "train_cfg.val_interval=0", "optim_wrapper.optimizer.lr=0.05")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work folder of a toy detector with more channels."""
    path = tmp_path_factory.mktemp("teacher")
    run_here(path, *SHORT, "model.channels=16")
    return path


def hook(teacher: Path, **term: Any) -> dict[str, Any]:
    known = {"config": str(CONFIG), "checkpoint": str(teacher), "options": ["model.channels=16"]}
    feature = {"type": "FeatureDistillation", "student": "backbone", "student_channels": 8, "teacher_channels": 16}
    return {"type": "DistillationHook", "teacher": known, "terms": [{**feature, **term}]}


def test_the_student_learns_and_is_saved_alone(teacher: Path, tmp_path: Path) -> None:
    before = load_checkpoint(teacher / "step_8.pth")
    options = (*SHORT, f"custom_hooks={[hook(teacher, weight=20.0)]}", "default_hooks.scalars.interval=1")
    state = run_here(tmp_path / "a", *options)
    rows = [json.loads(line) for line in (tmp_path / "a/scalars.jsonl").read_text().splitlines()]
    assert rows[-1]["distill_feature"] < 0.9 * rows[0]["distill_feature"]
    assert rows[0]["loss"] == pytest.approx(sum(v for k, v in rows[0].items() if k.startswith(("loss_", "distill"))))
    load_weights(ToyDetector(), state["state_dict"], "student")
    assert set(state["distillation"]) == {"terms.0.adapters.0.weight", "terms.0.adapters.0.bias"}
    plain = run_here(tmp_path / "b", *SHORT)
    assert any(not torch.equal(plain["state_dict"][name], state["state_dict"][name]) for name in plain["state_dict"])
    after = load_checkpoint(teacher / "step_8.pth")
    assert_same_state(before, after)


def test_a_distilled_run_resumes_bit_for_bit(teacher: Path, tmp_path: Path) -> None:
    options = (*SHORT, "model.dropout=0.3", f"custom_hooks={[hook(teacher), {'type': 'EMAHook', 'decay': 0.9}]}")
    whole = run_here(tmp_path / "whole", *options, amp=True)
    runner = Runner(prepare(load_config(CONFIG, options), str(tmp_path / "cut"), amp=True))
    runner.register_hook(StopAfter(3))
    runner.train()
    assert_same_state(whole, run_here(tmp_path / "cut", *options, resume=True, amp=True))
    with pytest.raises(CheckpointError):
        run_here(tmp_path / "cut", *SHORT, "train_cfg.max_steps=9", resume=True, amp=True)


def test_two_processes_distil_as_one(teacher: Path, tmp_path: Path) -> None:
    """Half the batch each: the adapters' gradient is averaged as the student's is."""
    options = (*SHORT, "train_cfg.max_steps=4", f"custom_hooks={[hook(teacher)]}")
    one = run_here(tmp_path / "one", *options, "train_dataloader.batch_size=2")
    assert run_many(tmp_path / "two", 2, *options, "train_dataloader.batch_size=1") == [0, 0]
    two = last(tmp_path / "two")
    for part in ("state_dict", "distillation"):
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("change, message", [
    (dict(student="nck"), "student ToyDetector has no module 'nck'; it has: backbone"),
    (dict(student_channels=9), "a map of 8 channels"),
    (dict(student_channels=None, teacher_channels=None), "8, 3, 3.*16, 3, 3.*need student_channels"),
    (dict(type="LogitDistillation", student_channels=0), "student_channels"),
    (dict(weight=0), "weight 0 must be positive"),
    (dict(kind="max"), "kind 'max'"),
])  # fmt: skip
def test_mistakes_are_named(teacher: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_here(tmp_path, *SHORT, f"custom_hooks={[hook(teacher, **change)]}")


def test_a_teacher_that_is_not_there_is_named(teacher: Path, tmp_path: Path) -> None:
    node = hook(teacher)
    for key, value, error in (("checkpoint", str(tmp_path), CheckpointError), ("config", "none.py", ConfigError)):
        wrong = {**node, "teacher": {**node["teacher"], key: value}}
        with pytest.raises(error, match="none.py|holds no checkpoint"):
            run_here(tmp_path / key, *SHORT, f"custom_hooks={[wrong]}")
    with pytest.raises(ConfigError, match="needs 'checkpoint'"):
        run_here(tmp_path / "x", *SHORT, f"custom_hooks={[{**node, 'teacher': {'config': str(CONFIG)}}]}")


def test_a_dense_detector_learns_from_a_wider_one(tmp_path: Path) -> None:
    """Logits and features of pictures; what is tested afterwards is the plain student."""
    root = write_squares(tmp_path / "squares")
    wide = squares_config(root)
    wide.model.backbone.width = 0.1875
    wide.model.neck.update(in_channels=(48, 96, 192), out_channels=24)
    wide.model.head.network.update(in_channels=24, feat_channels=24)
    wide.dump(str(tmp_path / "wide.py"))
    torch.manual_seed(0)
    torch.save({"state_dict": MODELS.build(wide.model).state_dict()}, tmp_path / "wide.pth")
    cfg = squares_config(root)
    known = {"config": str(tmp_path / "wide.py"), "checkpoint": str(tmp_path / "wide.pth")}
    terms = [
        {"type": "LogitDistillation", "temperature": 2.0, "alpha": 0.25},
        {"type": "FeatureDistillation", "kind": "channel", "student_channels": [16] * 3, "teacher_channels": [24] * 3},
    ]
    cfg.custom_hooks = [{"type": "DistillationHook", "teacher": known, "terms": terms}]
    cfg.train_cfg = dict(max_steps=1, val_interval=0)
    cfg.default_hooks.scalars.interval = 1
    Runner(prepare(cfg, str(tmp_path / "work"))).train()
    row = json.loads((tmp_path / "work/scalars.jsonl").read_text().splitlines()[0])
    assert row["distill_cls"] > 0 and row["distill_feature"] > 0
    build_detector(load_config(SQUARES), tmp_path / "work", "cpu")
    assert "distillation" in load_checkpoint(tmp_path / "work/step_1.pth")
    assert not any("adapters" in name for name in weights_of(load_checkpoint(tmp_path / "work/step_1.pth"), "x"))


def test_a_birds_eye_view_detector_learns_heat_maps_and_features() -> None:
    """The same parts on six cameras: a copy teaches nothing, another network does."""
    node = load_config(REPO_ROOT / "configs/bevdet/bevdet_tiny_synthetic.py").model
    torch.manual_seed(0)
    teacher = MODELS.build(node)
    student = MODELS.build(node)
    student.load_state_dict(teacher.state_dict())
    terms = [MapDistillation(), FeatureDistillation("img_neck", kind="channel"), FeatureDistillation("bev_encoder")]
    distillation = Distillation(student.eval(), teacher, terms)
    batch = random_batch(1, size_px=(64, 96))
    losses = distillation(batch, lambda: {"loss": student(batch.images, batch.rig)["depth_logits"].mean()})
    assert set(losses) == {"loss", "distill_map", "distill_feature", "distill_feature_"}
    assert all(abs(float(losses[name].detach())) < 1e-6 for name in losses if name != "loss")
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.1)
    moved = distillation(batch, lambda: {"loss": student(batch.images, batch.rig)["depth_logits"].mean()})
    assert all(float(moved[name]) > 1e-6 for name in moved if name != "loss")
    sum(moved.values()).backward()
    assert all(p.grad is None for p in teacher.parameters()) and not teacher.training
    assert float(student.img_neck.weight.grad.abs().sum() if hasattr(student.img_neck, "weight") else 1) > 0
    with pytest.raises(ConfigError, match="no 'heat' in an output that has"):
        Distillation(student, teacher, [MapDistillation(path="*.heat")])(
            batch, lambda: {"loss": student(batch.images, batch.rig)["depth_logits"].mean()}
        )
