"""The converter as a user calls it."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

from bev.engine import load_config, main
from bev.io.checkpoint import load_checkpoint, load_weights
from bev.registry import MODELS
from bev.structures.conventions import convert_detr_branch
from tests.paths import REPO_ROOT

TOOL = REPO_ROOT / "tools" / "convert_checkpoint.py"
PUBLISHED = REPO_ROOT / "configs" / "detr3d" / "detr3d_r101_dcn_nusc.py"
BRANCH = "pts_bbox_head.reg_branches.0.4.weight"


def _call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """In this process: starting one costs seconds."""
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", *map(str, arguments)])
    return main(runpy.run_path(str(TOOL))["run"])


@pytest.fixture
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The published configuration with fewer channels and one decoder layer."""
    small = load_config(PUBLISHED)
    small.model.img_backbone.update(depth=50, base_channels=4)
    small.model.img_neck.in_channels = (16, 32, 64, 128)
    head = small.model.pts_bbox_head
    head.num_queries, head.transformer.layers = 9, head.transformer.layers[:1]
    path = tmp_path_factory.mktemp("config") / "small.py"
    small.dump(str(path))
    return str(path)


@pytest.fixture
def source(tmp_path: Path, config: str) -> Path:
    """The authors' file of a small DETR3D, as it was when training ended."""
    torch.manual_seed(0)
    state = MODELS.build(load_config(config).model).state_dict()
    wrapped = {f"module.{name}": value for name, value in state.items()}
    path = tmp_path / "detr3d.pth"
    torch.save({"state_dict": wrapped, "optimizer": {"state": {}}, "meta": {"epoch": 24, "iter": 9}}, path)
    return path


def test_one_file(
    source: Path, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out.pth"
    assert _call(monkeypatch, source, out, "--from", "detr3d", "--config", config) == 0
    said = capsys.readouterr().out
    model = MODELS.build(load_config(config).model)
    assert f"fit: {len(model.state_dict())} of the model's {len(model.state_dict())} tensors" in said
    assert "boxes of the file: mmdet3d_v0 (as the authors of detr3d)" in said and f"wrote {out}" in said
    written = load_checkpoint(out)
    load_weights(model, written["state_dict"], out)
    old = load_checkpoint(source)["state_dict"][f"module.{BRANCH}"]
    assert torch.equal(written["state_dict"][BRANCH], convert_detr_branch(old))
    assert set(written) == {"state_dict", "meta"} and out.stat().st_size < 1.1 * source.stat().st_size
    assert _call(monkeypatch, source, out, "--from", "mmdet3d", "--config", config) == 0
    assert torch.equal(load_checkpoint(out)["state_dict"][BRANCH], old)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config", "CONFIG"), "but whose: the authors' files and mmdet3d's have equal names"),
        (("--from", "bevformer"), "is not of bevformer: it looks like detr3d"),
        (("--from", "detr3d"), "does not fit configs/detr3d/detr3d_"),
        (("--from", "detr3d", "--config", "none.py"), "config file none.py does not exist"),
    ],
)
def test_mistakes_leave_nothing(
    source: Path,
    config: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    given = [config if text == "CONFIG" else text for text in arguments]
    assert _call(monkeypatch, source, tmp_path / "out.pth", *given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and "Traceback" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["detr3d.pth"]


def test_onnx_needs_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(monkeypatch, tmp_path / "x.onnx", tmp_path / "out.pth") == 2
    assert "an ONNX file needs --config" in capsys.readouterr().err
