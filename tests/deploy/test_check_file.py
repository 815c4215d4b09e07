"""The stand-alone proof: files of several formats against their detector, by function and by command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from bev.deploy import ExportError, check_file, write_onnx, write_program
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

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
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
    write_onnx(example.graph(), folder / "graph.onnx", metadata=example.metadata)
    return example, folder


def test_files_pass_and_a_changed_one_does_not(written: tuple[Exportable, Path]) -> None:
    example, folder = written
    report = check_file(example, folder / "graph.onnx", layers=True)
    assert report.passed and len(report.layers) > 50 and report.boxes[0].count > 5, report.text()
    write_program(example.graph(outputs="both"), folder / "graph.pt2")
    report = check_file(example, folder / "graph.pt2")
    assert report.passed and len(report.outputs) > 1, report.text()
    model = onnx.load(str(folder / "graph.onnx"))
    last = [node for node in model.graph.node if node.op_type == "Conv"][-1].input[1]
    weight = next(item for item in model.graph.initializer if item.name == last)
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.5), weight.name))
    onnx.save(model, folder / "changed.onnx")
    report = check_file(example, folder / "changed.onnx", layers=True)
    assert not report.passed and "FAILED" in report.text()


def test_errors_name_what_is_wrong(written: tuple[Exportable, Path]) -> None:
    example, folder = written
    with pytest.raises(ExportError, match="not a graph of this Detr3D"):
        check_file(small.detr3d(batch=1), folder / "graph.onnx")
    write_program(example.graph(), folder / "other.pt2")
    with pytest.raises(ExportError, match="ONNX graphs alone"):
        check_file(example, folder / "other.pt2", layers=True)


def test_the_command_with_pictures_and_what_was_fed(
    written: tuple[Exportable, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = written
    rng = np.random.default_rng(0)
    cv2.imwrite(str(folder / "picture.png"), cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (120, 90)))

    def run(*more: str) -> int:
        given = [str(CONFIG), str(folder / "weights.pth"), str(folder / "graph.onnx"), *more]
        monkeypatch.setattr("sys.argv", ["check_graph.py", *given])
        return command.run()

    pictures = ("--pictures", str(folder / "picture.png"))
    assert run(*pictures) == 0 and "passed" in capsys.readouterr().out
    arguments: Any = command.parse([str(CONFIG), str(folder / "weights.pth"), str(folder / "graph.onnx"), *pictures])
    fed = command.example_of(arguments).images.numpy()
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
