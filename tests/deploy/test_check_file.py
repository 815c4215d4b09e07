"""The stand-alone proof of a file against its detector, by function and command; ONNX graphs: test_export.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from bev.deploy import ExportError, check_file, open_runner, write_program
from bev.deploy.build import Exportable
from bev.deploy.check import Report
from bev.deploy.cuda import CudaError
from bev.deploy.parity import Difference
from bev.engine import load_config
from bev.io.checkpoint import save_checkpoint
from bev.registry import MODELS
from tests.deploy import small
from tests.paths import REPO_ROOT
from tools import check_graph as command
from tools import export

CONFIG = REPO_ROOT / "configs/yolox/yolox_nano_coco.py"
SIZE_PX = (64, 96)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exportable, Path]:
    """YOLOX-Nano with weights that find something, its checkpoint and its file."""
    folder = tmp_path_factory.mktemp("graph")
    torch.manual_seed(0)
    model = MODELS.build(load_config(CONFIG).model).eval()
    picture = torch.randint(0, 256, (4, 3, *SIZE_PX), dtype=torch.uint8)
    small.settle(model, picture)
    model.eval()
    for part in model.modules():
        if isinstance(part, torch.nn.Conv2d) and part.bias is not None and float(part.bias.detach().min()) < -3:
            torch.nn.init.zeros_(part.bias)
    save_checkpoint({"state_dict": model.state_dict(), "meta": {}}, folder / "weights.pth")
    how = {"size": list(SIZE_PX), "place": "corner", "pad_value": 114}
    example = Exportable(model, picture[:1], None, {"picture": how})
    write_program(example.graph(), folder / "graph.pt2", metadata=example.metadata)
    return example, folder


def test_errors_name_what_is_wrong(written: tuple[Exportable, Path]) -> None:
    example, folder = written
    with pytest.raises(ExportError, match="not a graph of this Detr3D"):
        check_file(small.detr3d(batch=1), folder / "graph.pt2")
    with pytest.raises(ExportError, match="ONNX graphs alone"):
        check_file(example, folder / "graph.pt2", layers=True)


def test_the_command_with_pictures_and_what_was_fed(
    written: tuple[Exportable, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = written
    rng = np.random.default_rng(0)
    cv2.imwrite(str(folder / "picture.png"), cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (120, 90)))

    def run(*more: str) -> int:
        given = [str(CONFIG), str(folder / "weights.pth"), str(folder / "graph.pt2"), *more]
        monkeypatch.setattr("sys.argv", ["check_graph.py", *given])
        return command.run()

    pictures = ("--pictures", str(folder / "picture.png"))
    assert run(*pictures) == 0 and "passed" in capsys.readouterr().out
    arguments: Any = command.parse([str(CONFIG), str(folder / "weights.pth"), str(folder / "graph.pt2"), *pictures])
    fed = command.example_of(arguments, open_runner(folder / "graph.pt2")).images.numpy()
    np.save(folder / "right.npy", fed)
    np.save(folder / "swapped.npy", fed[:, ::-1])
    assert run(*pictures, "--fed", str(folder / "right.npy")) == 0
    assert "no difference" in capsys.readouterr().out
    assert run(*pictures, "--fed", str(folder / "swapped.npy")) == 1
    assert "red and blue are swapped" in capsys.readouterr().out


def test_export_checks_every_format_it_can_run(
    written: tuple[Exportable, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    example, folder = written
    given = [str(CONFIG), str(folder / "weights.pth"), "--out", str(tmp_path), "--check"]
    args = export.parse([*given, "--format", "torch-export"])
    assert export.write(args, example, tmp_path / "graph.pt2") == 0
    assert "passed\nwrote" in capsys.readouterr().out
    monkeypatch.setattr(export, "check_file", lambda *_: Report([Difference("score", (1,), 1.0, 1.0)], []))
    assert export.write(args, example, tmp_path / "graph.pt2") == 1
    args = export.parse([*given, "--format", "tensorrt-rtx"])
    assert not export.engine_proven(args, example, tmp_path / "x.engine")

    def nowhere(*_: Any) -> Report:
        raise CudaError("the CUDA driver is not there")

    monkeypatch.setattr(export, "check_file", nowhere)
    assert export.engine_proven(args, example, tmp_path / "x.engine")
    assert "the engine was not run: the CUDA driver is not there" in capsys.readouterr().out
    args = export.parse([*given, "--format", "tensorrt-rtx", "--precision", "fp16"])
    assert export.engine_proven(args, example, tmp_path / "x.engine")
    assert "not compared with torch" in capsys.readouterr().out
