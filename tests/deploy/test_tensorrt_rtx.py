"""The builder with the real TensorRT-RTX, which needs no GPU; ``test_export`` builds every exported family with it."""

from __future__ import annotations

from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("tensorrt_rtx_libs", exc_type=ImportError)
pytest.importorskip("tensorrt_rtx_bindings", exc_type=ImportError)

from bev.deploy.facts import ExportError  # noqa: E402
from bev.deploy.tensorrt import EngineOptions, build_engine  # noqa: E402
from bev.deploy.tensorrt_api import load  # noqa: E402
from bev.deploy.tensorrt_file import read_engine  # noqa: E402
from bev.deploy.tensorrt_runner import EngineRunner  # noqa: E402
from tests.deploy.tiny import INPUTS, OUTPUTS, write_tiny  # noqa: E402
from tools import build_engine as tool  # noqa: E402


def test_an_engine_and_its_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command; strongly typed, for a batch of 1 to 3 and the GPUs asked for."""
    graph = write_tiny(tmp_path / "tiny.onnx")
    options = ["--library", "tensorrt-rtx", "--engine-batch", "1", "2", "3", "--targets", "SM86"]
    assert tool.main([str(graph), *options]) == 0
    assert "tiny.engine: tensorrt-rtx 1." in capsys.readouterr().out
    plan, notes = read_engine(tmp_path / "tiny.engine")
    assert len(plan) > 1000 and notes.version == load("tensorrt-rtx").version and notes.options["targets"] == ["SM86"]
    bindings = {binding.name: binding for binding in notes.bindings}
    assert tuple(bindings) == (*INPUTS, *OUTPUTS)
    assert [bindings[name].type for name in (*INPUTS, *OUTPUTS)] == [
        "uint8", "int64", "float32", "bool", "float32", "int64", "float32"
    ]  # fmt: skip
    assert bindings["images"].highest == (3, 4) and bindings["pool_points"].highest == (30, 8)
    library = load("tensorrt-rtx")
    assert notes.refusals(library, (8, 6)) == [] and "built for SM86" in notes.refusals(library, (9, 0))[0]


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph, out = write_tiny(tmp_path / "tiny.onnx"), tmp_path / "x.engine"
    bad = onnx.load(str(graph))
    bad.graph.node[8].op_type = "Det"
    bad.graph.node[8].name = "planted"
    del bad.graph.node[8].input[1]
    onnx.save(bad, str(tmp_path / "bad.onnx"))
    with pytest.raises(ExportError, match=r"cannot parse .*planted.*Det"):
        build_engine(tmp_path / "bad.onnx", out, library="tensorrt-rtx")
    plugin = onnx.load(str(graph))
    plugin.graph.node[8].domain = "bev"
    onnx.save(plugin, str(tmp_path / "plugin.onnx"))
    with pytest.raises(ExportError, match="has plugin nodes, which TensorRT-RTX .* does not know"):
        build_engine(tmp_path / "plugin.onnx", out, library="tensorrt-rtx")
    options = [
        (EngineOptions(targets=("SM90",)), "builds for SM.*, not for SM90"),
        (EngineOptions(targets=()), "not for nothing"),
        (EngineOptions(hardware="same"), "has no hardware compatibility levels"),
        (EngineOptions(version_compatible=True), "has no version-compatible engines"),
    ]
    for option, message in options:
        with pytest.raises(ExportError, match=message):
            build_engine(graph, out, option, "tensorrt-rtx")
    assert tool.main([str(tmp_path / "none.onnx"), "--library", "tensorrt-rtx"]) == 2
    assert "none.onnx does not exist" in capsys.readouterr().err and not out.exists()


def test_an_engine_needs_a_gpu_to_run(tmp_path: Path) -> None:
    """Whatever is missing here (a driver, the CUDA runtime, a GPU of that kind) is told."""
    path = build_engine(write_tiny(tmp_path / "tiny.onnx"), tmp_path / "t.engine", library="tensorrt-rtx")
    try:
        runner = EngineRunner(path)
    except ExportError as error:
        assert "cuda" in str(error).lower() or "cannot run here" in str(error)
    else:
        assert runner.facts.inputs == INPUTS
