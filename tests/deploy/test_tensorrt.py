"""The builder for TensorRT 10 and 11, with stand-ins for the library and the GPU: nothing here claims more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from bev.deploy.facts import ExportError  # noqa: E402
from bev.deploy.runtime import OnnxRunner  # noqa: E402
from bev.deploy.tensorrt import PLUGIN_DOMAIN, EngineOptions, build_engine  # noqa: E402
from bev.deploy.tensorrt_api import load, numbers  # noqa: E402
from bev.deploy.tensorrt_file import read_notes  # noqa: E402
from bev.deploy.tensorrt_profile import profile_of  # noqa: E402
from tests.deploy.standin_tensorrt import API, HostCuda, public_names, standin  # noqa: E402
from tests.deploy.tiny import write_tiny  # noqa: E402
from tests.deploy.tiny_engine import ELEVEN, TEN, Built, inputs_of, library_of  # noqa: E402


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Built(tmp_path)


@pytest.mark.parametrize("version", API)
def test_the_standin_has_no_name_that_tensorrt_lacks(version: str) -> None:
    """So the builder and the runner, which work with it, call nothing that a real version does not have."""
    recorded = API[version]["classes"]
    for name, names in public_names(standin(version, HostCuda())).items():
        assert names <= set(recorded[name]), (name, names - set(recorded[name]))


@pytest.mark.parametrize("version", API)
def test_builds_with_each_version(version: str, tmp_path: Path) -> None:
    built = Built(tmp_path, version)
    network, config = built.library.module.calls[-1]
    bit = 1 << API[version]["enums"]["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"]
    assert network._flags == (bit if numbers(version) < (11,) else 0), "11 has strong types alone"
    assert built.library.module.BuilderFlag.TF32 not in config._set, "TF32 is not the graph that was proven"
    profile = config._profiles[0]._shapes
    assert profile["images"] == ((1, 4), (1, 4), (4, 4))
    assert profile["pool_points"] == ((2, 8), (5, 8), (40, 8)), "the example has ten rows for two frames"
    score = built.runner()(inputs_of())["score"]
    np.testing.assert_allclose(score, OnnxRunner(built.onnx)(inputs_of())["score"])


def test_plugins_need_a_version_that_keeps_them_in_the_engine() -> None:
    from bev.ops.exporting import PLUGIN_DOMAIN as named_by_the_graph

    assert PLUGIN_DOMAIN == named_by_the_graph
    flags = {version: API[version]["enums"]["NetworkDefinitionCreationFlag"] for version in API}
    for version in (TEN, ELEVEN):
        given = library_of(version, HostCuda()).network_flags(plugins=True)
        assert given & 1 << flags[version]["PREFER_AOT_PYTHON_PLUGINS"]
    with pytest.raises(ExportError, match="too old for plugins"):
        library_of("10.0.1", HostCuda()).network_flags(plugins=True)


def test_options_reach_the_builder(tmp_path: Path) -> None:
    options = EngineOptions((2, 2, 3), 1 << 20, 5, "same", version_compatible=True, tf32=True)
    built = Built(tmp_path, ELEVEN, options)
    config, module = built.config, built.library.module
    assert config.builder_optimization_level == 5
    assert config.hardware_compatibility_level is module.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
    assert config._pool == {module.MemoryPoolType.WORKSPACE: 1 << 20}
    assert {module.BuilderFlag.TF32, module.BuilderFlag.VERSION_COMPATIBLE} <= config._set
    assert config._profiles[0]._shapes["images"] == ((2, 4), (2, 4), (3, 4))
    with pytest.raises(ExportError, match="level is 0 to 5, got 6"):
        EngineOptions(level=6)
    with pytest.raises(ExportError, match="hardware compatibility must be one of"):
        EngineOptions(hardware="all")
    with pytest.raises(ExportError, match="10.0.1 has no hardware compatibility level 'same'"):
        Built(tmp_path, "10.0.1", EngineOptions(hardware="same"))


def test_timings_are_kept_beside_the_engine(built: Built, caplog: pytest.LogCaptureFixture) -> None:
    cache = built.path.parent / f"tensorrt-{TEN}-sm86.timing"
    assert cache.read_bytes() == b"timings!"
    build_engine(built.onnx, built.path, library=built.library, cuda=built.cuda)
    assert cache.read_bytes() == b"timings!!", "the second build starts from the timings of the first"
    cache.write_bytes(b"other")
    build_engine(built.onnx, built.path, library=built.library, cuda=built.cuda)
    assert cache.read_bytes() == b"timings!" and "timed anew" in caplog.text


def test_notes(built: Built) -> None:
    notes = read_notes(built.path)
    assert (notes.kind, notes.version, notes.capability, notes.device) == ("tensorrt", TEN, (8, 6), "a stand-in")
    assert notes.description["more"] == {"git": "abc", "classes": ["car"]}
    assert notes.description["calibration"]["camera_names"] == ["FRONT"]
    by_name = {binding.name: binding for binding in notes.bindings}
    assert by_name["images"].type == "uint8" and by_name["images"].highest == (4, 4)
    assert not by_name["score"].is_input and by_name["label"].type == "int64"


def test_what_the_builder_refuses(tmp_path: Path) -> None:
    cuda: Any = HostCuda()
    library = library_of(TEN, cuda)
    out = tmp_path / "x.engine"
    with pytest.raises(ExportError, match=r"cannot parse .*: node 'planted' \(GridSample\): no importer"):
        build_engine(write_tiny(tmp_path / "bad.onnx", "GridSample"), out, library=library, cuda=cuda)
    with pytest.raises(ExportError, match="not a graph of this library"):
        build_engine(write_tiny(tmp_path / "other.onnx", notes=False), out, library=library, cuda=cuda)
    (tmp_path / "text.onnx").write_text("nothing")
    with pytest.raises(ExportError, match="not an ONNX file|not a graph of this library"):
        build_engine(tmp_path / "text.onnx", out, library=library, cuda=cuda)
    with pytest.raises(ExportError, match="does not exist"):
        build_engine(tmp_path / "none.onnx", out, library=library, cuda=cuda)
    good = write_tiny(tmp_path / "good.onnx")
    with pytest.raises(ExportError, match="batches must rise"):
        build_engine(good, out, EngineOptions(batch=(2, 1, 4)), library, cuda)
    library.module.Builder.build_serialized_network = lambda self, network, config: self._log.log(
        library.module.ILogger.Severity.ERROR, "no tactic"
    )
    with pytest.raises(ExportError, match="cannot build .*: no tactic"):
        build_engine(good, out, library=library, cuda=cuda)
    assert not out.exists()


def test_no_gpu_is_said_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bev.deploy import cuda, tensorrt

    def none_here(*arguments: Any) -> Any:
        raise cuda.CudaError("cudaGetDeviceCount: cudaErrorNoDevice (100)")

    monkeypatch.setattr(tensorrt, "Cuda", none_here)
    with pytest.raises(ExportError, match="builds engines on a GPU .*cudaErrorNoDevice.*TensorRT-RTX builds without"):
        build_engine(write_tiny(tmp_path / "t.onnx"), tmp_path / "t.engine", library=library_of(TEN, HostCuda()))


def test_missing_packages_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_libs", None)
    with pytest.raises(ImportError, match=r"bevstack\[tensorrt\]"):
        load("tensorrt")
    with pytest.raises(ImportError, match=r"bevstack\[tensorrt-rtx\]"):
        load("tensorrt-rtx")
    module = type("module", (), {"__version__": "8.6.1"})
    monkeypatch.setitem(sys.modules, "tensorrt", module)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="TensorRT 8.6.1 is too old"):
        load("tensorrt")


def test_profiles() -> None:
    shapes = {"images": (-1, 6, 3), "pool_points": (-1, 8), "mirrored_pool_rest": (-1, -1), "pool_cells": (-1, 9)}
    example = {"images": [2, 6, 3], "pool_points": [100, 8], "mirrored_pool_rest": [6, 5], "pool_cells": [2, 9]}
    ranges = profile_of(shapes, (1, 2, 4), example)
    assert ranges["images"] == ((1, 6, 3), (2, 6, 3), (4, 6, 3))
    assert ranges["pool_points"] == ((2, 8), (100, 8), (400, 8))
    assert ranges["mirrored_pool_rest"] == ((2, 2), (6, 5), (24, 12))
    assert ranges["pool_cells"] == ((1, 9), (2, 9), (4, 9))
    assert profile_of({"images": (1, 6, 3)}, (1, 1, 1), {}) == {}
    unknown = profile_of({"pool_points": (-1, 8), "pool_rest": (-1, -1)}, (1, 1, 1), {})
    assert unknown["pool_points"] == ((2, 8), (40_000, 8), (400_000, 8))
    assert unknown["pool_rest"] == ((2, 2), (40_000, 8), (400_000, 256))
