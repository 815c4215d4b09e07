"""The commands as a user types them."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bev.engine import main
from tests.engine.runs import CONFIG, largest_difference, run_here
from tests.paths import REPO_ROOT

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")


def _environment() -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(REPO_ROOT)}
    environment.pop("OMP_NUM_THREADS", None)
    return environment


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=600)


def _tool(name: str) -> tuple[str, str]:
    return sys.executable, str(REPO_ROOT / "tools" / f"{name}.py")


def test_train_then_test(tmp_path: Path) -> None:
    choices = ("--amp", "--seed", "3", "--cfg-options", "train_cfg.max_steps=12")
    trained = _run(tmp_path, *_tool("train"), str(CONFIG), *choices)
    assert trained.returncode == 0, trained.stderr
    work_dir = tmp_path / "work_dirs" / "toy_config"
    assert torch.load(work_dir / "step_12.pth", weights_only=True)["meta"]["seed"] == 3
    checkpoint = str(work_dir / "step_12.pth")
    tested = _run(tmp_path, *_tool("test"), str(CONFIG), checkpoint, "--out", "results.txt")
    assert tested.returncode == 0, tested.stderr
    metrics = json.loads(tested.stdout[tested.stdout.index("{") :])
    assert metrics["toy/frames"] == metrics["toy/distinct"] == 5
    assert (tmp_path / "results.txt").read_text().split() == [f"frame{i}" for i in range(5)]
    assert "train_cfg" in (work_dir / "toy_config.py").read_text(), "testing leaves the training's configuration alone"


def test_torchrun_trains_and_tests_on_two_processes(tmp_path: Path) -> None:
    sgd = "optim_wrapper.optimizer={'type':'SGD','lr':0.05}"
    options = ("--cfg-options", sgd, "optim_wrapper.paramwise_cfg=None", "train_cfg.max_steps=4")
    train = str(REPO_ROOT / "tools" / "train.py")
    two = _run(tmp_path, *TORCHRUN, train, str(CONFIG), "--launcher", "pytorch", "--work-dir", "two", *options)
    assert two.returncode == 0, two.stderr
    run_here(tmp_path / "one", *options[1:], "train_dataloader.batch_size=4")
    a, b = (torch.load(tmp_path / name / "step_4.pth", weights_only=True) for name in ("one", "two"))
    assert largest_difference(a, b) < 1e-6
    assert json.loads((tmp_path / "two" / "versions.json").read_text())["threads"] == 1
    test = str(REPO_ROOT / "tools" / "test.py")
    scored = _run(tmp_path, *TORCHRUN, test, str(CONFIG), "two/step_4.pth", "--launcher", "pytorch", "--out", "r.txt")
    assert scored.returncode == 0, scored.stderr
    assert (tmp_path / "r.txt").read_text().split() == [f"frame{i}" for i in range(5)]


def test_interrupted_then_resumed(tmp_path: Path) -> None:
    command = (*_tool("train"), str(CONFIG), "--work-dir", "run", "--cfg-options", "train_cfg.max_steps=100000")
    with open(tmp_path / "out.txt", "w") as out:
        process = subprocess.Popen(command, cwd=tmp_path, env=_environment(), stdout=out, stderr=out)
        deadline = time.monotonic() + 300
        while "step 50/" not in (tmp_path / "out.txt").read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 130
    said = (tmp_path / "out.txt").read_text()
    assert f"continue with: python tools/train.py {CONFIG} --work-dir run --resume" in said and "Traceback" not in said
    step = torch.load(tmp_path / "run" / (tmp_path / "run" / "last_checkpoint").read_text().strip(), weights_only=True)
    short = ("--cfg-options", f"train_cfg.max_steps={step['meta']['step'] + 1}")
    resumed = _run(tmp_path, *command[:5], "--resume", *short)
    assert resumed.returncode == 0 and f"at step {step['meta']['step']} of" in resumed.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (("train", "none.py"), "config file none.py does not exist"),
    (("train", str(CONFIG), "--cfg-options", "model.chanels=3"), "config key 'model.chanels' is unknown; did you mean"),
    (("train", str(CONFIG), "--launcher", "pytorch"), "launcher 'pytorch' needs torchrun"),
    (("train", str(CONFIG), "--resume", "none.pth"), "checkpoint none.pth does not exist"),
    (("test", str(CONFIG), "none.pth"), "checkpoint none.pth does not exist"),
    (("test", str(CONFIG), "none.pth", "--report", "page"), "config key 'test_evaluator.report' is unknown"),
])  # fmt: skip
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    """In this process: starting one costs seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(arguments))
    assert main(runpy.run_path(_tool(arguments[0])[1])["run"]) == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_checkpoint_of_another_model(tmp_path: Path) -> None:
    weights = {"backbone.weight": torch.zeros(8, 3, 3, 3), "neck.bias": torch.zeros(2)}
    torch.save({"state_dict": weights}, tmp_path / "x.pth")
    result = _run(tmp_path, *_tool("test"), str(CONFIG), "x.pth")
    assert result.returncode == 2
    assert "x.pth is of another model than ToyDetector: 1 of the model's 4 keys match; 3 missing" in result.stderr
