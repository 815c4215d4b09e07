"""``tools/export.py`` as a user calls it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bev.deploy import Pipeline, save_rig
from bev.engine import main
from bev.io.checkpoint import save_checkpoint
from tests.deploy import small
from tests.deploy.test_pipeline import _node, _original
from tests.paths import REPO_ROOT
from tools import export


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration, checkpoint and calibration of the small lift-splat detector."""
    path, example = tmp_path_factory.mktemp("export"), small.bevdet(batch=1)
    image = "dict(type='ImageTransform', size=(64, 96), method='area')"
    where = "root='none', version='v1.0-mini', split='mini_val'"
    frames = f"test_dataloader = dict(dataset=dict(type='NuScenesDataset', {where}, image={image}))"
    text = f"model = {_node()!r}\n{frames}\n"
    (path / "small.py").write_text(text)
    save_checkpoint({"state_dict": example.model.state_dict()}, path / "small.pth")
    (path / "last_checkpoint").write_text("small.pth")  # a work folder serves as a checkpoint
    rig = _original(example.rig)
    network = rig.augment_images(example.rig.image_aug[0].new_tensor([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]), (64, 96))
    save_rig(network, path / "rig.npz")
    save_rig(rig, path / "original.npz")
    return path


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["export.py", *arguments])
    return main(export.run, (export.ExportError, ImportError, ValueError))


def test_a_graph_that_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(folder / "small.py"), str(folder)]
    rest = ["--rig", str(folder / "rig.npz"), "--format", "torch-export", "--out", str(folder / "graphs")]
    assert _run(monkeypatch, *files, *rest) == 0
    assert "pool_points" in capsys.readouterr().out
    from bev.deploy import load_rig

    pipeline, rig = Pipeline(folder / "graphs" / "small.pt2"), load_rig(folder / "original.npz")
    picture = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    assert len(pipeline([picture] * 6, rig)) > 0


def test_mistakes_are_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(folder / name) for name in ("small.py", "small.pth")]
    assert _run(monkeypatch, *files, "--out", str(folder)) == 2
    assert "give the calibration with --rig" in capsys.readouterr().err
    assert _run(monkeypatch, *files, "--out", str(folder), "--rig", str(folder / "small.pth")) == 2
    assert "small.pth is not a rig" in capsys.readouterr().err
    yolox = str(REPO_ROOT / "configs/yolox/yolox_nano_coco.py")
    assert _run(monkeypatch, yolox, str(folder / "small.pth"), "--out", str(folder), "--size", "64", "64") == 2
    assert "of another model than DenseDetector" in capsys.readouterr().err
