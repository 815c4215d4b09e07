"""The builder for TensorRT 10 and 11 and the runner of engines, with stand-ins for the library and the GPU.

What needs the real ones is marked ``gpu`` and is at the end; nothing else here claims anything about them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from bev.deploy.facts import ExportError  # noqa: E402
from bev.deploy.runtime import OnnxRunner, open_runner  # noqa: E402
from bev.deploy.tensorrt import PLUGIN_DOMAIN, EngineOptions, build_engine  # noqa: E402
from bev.deploy.tensorrt_api import Library, load, numbers  # noqa: E402
from bev.deploy.tensorrt_file import notes_path, read_notes  # noqa: E402
from bev.deploy.tensorrt_profile import profile_of  # noqa: E402
from bev.deploy.tensorrt_runner import DeviceArray, EngineRunner  # noqa: E402
from tests.deploy.standin_tensorrt import API, HostCuda, public_names, standin  # noqa: E402
from tests.deploy.tiny import write_tiny  # noqa: E402

TEN, ELEVEN = "10.16.1.11", "11.4.0.106"


def _library(version: str, cuda: HostCuda) -> Library:
    return Library(standin(version, cuda), "tensorrt", version)


class _Built:
    """The tiny graph's engine, and what it was built with."""

    def __init__(self, folder: Path, version: str = TEN, options: EngineOptions = EngineOptions()) -> None:
        self.cuda: Any = HostCuda()
        self.library = _library(version, self.cuda)
        self.onnx = write_tiny(folder / "tiny.onnx")
        self.path = build_engine(self.onnx, folder / "tiny.engine", options, self.library, self.cuda)

    @property
    def config(self) -> Any:
        return self.library.module.calls[-1][1]

    def runner(self, **options: Any) -> EngineRunner:
        return EngineRunner(self.path, library=self.library, cuda=self.cuda, **options)


@pytest.fixture
def built(tmp_path: Path) -> _Built:
    return _Built(tmp_path)


@pytest.mark.parametrize("version", API)
def test_the_standin_has_no_name_that_tensorrt_lacks(version: str) -> None:
    """So the builder and the runner, which work with it, call nothing that a real version does not have."""
    recorded = API[version]["classes"]
    for name, names in public_names(standin(version, HostCuda())).items():
        assert names <= set(recorded[name]), (name, names - set(recorded[name]))


@pytest.mark.parametrize("version", API)
def test_builds_with_each_version(version: str, tmp_path: Path) -> None:
    built = _Built(tmp_path, version)
    network, config = built.library.module.calls[-1]
    bit = 1 << API[version]["enums"]["NetworkDefinitionCreationFlag"]["STRONGLY_TYPED"]
    assert network._flags == (bit if numbers(version) < (11,) else 0), "11 has strong types alone"
    assert built.library.module.BuilderFlag.TF32 not in config._set, "TF32 is not the graph that was proven"
    profile = config._profiles[0]._shapes
    assert profile["images"] == ((1, 4), (1, 4), (4, 4))
    assert profile["pool_points"] == ((2, 8), (5, 8), (40, 8)), "the example has ten rows for two frames"
    score = built.runner()(_inputs())["score"]
    np.testing.assert_allclose(score, OnnxRunner(built.onnx)(_inputs())["score"])


def test_plugins_need_a_version_that_keeps_them_in_the_engine() -> None:
    from bev.ops.exporting import PLUGIN_DOMAIN as named_by_the_graph

    assert PLUGIN_DOMAIN == named_by_the_graph
    flags = {version: API[version]["enums"]["NetworkDefinitionCreationFlag"] for version in API}
    for version in (TEN, ELEVEN):
        given = _library(version, HostCuda()).network_flags(plugins=True)
        assert given & 1 << flags[version]["PREFER_AOT_PYTHON_PLUGINS"]
    with pytest.raises(ExportError, match="too old for plugins"):
        _library("10.0.1", HostCuda()).network_flags(plugins=True)


def test_options_reach_the_builder(tmp_path: Path) -> None:
    options = EngineOptions((2, 2, 3), 1 << 20, 5, "same", version_compatible=True, tf32=True)
    built = _Built(tmp_path, ELEVEN, options)
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
        _Built(tmp_path, "10.0.1", EngineOptions(hardware="same"))


def test_timings_are_kept_beside_the_engine(built: _Built, caplog: pytest.LogCaptureFixture) -> None:
    cache = built.path.parent / f"tensorrt-{TEN}-sm86.timing"
    assert cache.read_bytes() == b"timings!"
    build_engine(built.onnx, built.path, library=built.library, cuda=built.cuda)
    assert cache.read_bytes() == b"timings!!", "the second build starts from the timings of the first"
    cache.write_bytes(b"other")
    build_engine(built.onnx, built.path, library=built.library, cuda=built.cuda)
    assert cache.read_bytes() == b"timings!" and "timed anew" in caplog.text


def test_notes(built: _Built) -> None:
    notes = read_notes(built.path)
    assert (notes.kind, notes.version, notes.capability, notes.device) == ("tensorrt", TEN, (8, 6), "a stand-in")
    assert notes.description["more"] == {"git": "abc", "classes": ["car"]}
    assert notes.description["calibration"]["camera_names"] == ["FRONT"]
    by_name = {binding.name: binding for binding in notes.bindings}
    assert by_name["images"].type == "uint8" and by_name["images"].highest == (4, 4)
    assert not by_name["score"].is_input and by_name["label"].type == "int64"


def test_what_the_builder_refuses(tmp_path: Path) -> None:
    cuda: Any = HostCuda()
    library = _library(TEN, cuda)
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
        build_engine(write_tiny(tmp_path / "t.onnx"), tmp_path / "t.engine", library=_library(TEN, HostCuda()))


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


def _inputs(batch: int = 1, rows: int = 3, memory: float = 0.0, continues: bool = False) -> dict[str, Any]:
    return {
        "images": np.arange(4 * batch, dtype=np.uint8).reshape(batch, 4),
        "pool_points": np.zeros((rows, 8), np.int64),
        "state_memory": np.full((batch, 1), memory, np.float32),
        "state_continues": np.full(batch, continues),
    }


def test_runs_as_onnxruntime_does(built: _Built) -> None:
    """Several shapes in turn, each launched and then replayed; nothing stays on the device afterwards."""
    runner, reference = built.runner(), OnnxRunner(built.onnx)
    for repeat in range(3):
        for batch, rows in ((1, 3), (4, 3), (2, 40)):
            inputs = _inputs(batch, rows, memory=float(repeat), continues=bool(repeat % 2))
            found, expected = runner(inputs), reference(inputs)
            assert list(found) == ["score", "label", "next_memory"]
            for name, value in expected.items():
                np.testing.assert_array_equal(np.asarray(found[name]), value)
    assert built.cuda.launches == 6, "all but the first run of each shape are replayed graphs"
    assert set(runner.times_ms) == {"upload", "network", "download"}
    runner.close()
    assert not built.cuda.held and not built.cuda.handles and not built.cuda.graphs


def test_without_cuda_graphs(built: _Built) -> None:
    with built.runner(cuda_graphs=False) as runner:
        for _ in range(2):
            found = runner(_inputs())
    np.testing.assert_array_equal(found["score"], OnnxRunner(built.onnx)(_inputs())["score"])
    assert built.cuda.launches == 0


def test_a_failed_capture_is_told_and_runs_go_on(built: _Built, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(stream: int, work: Any) -> int:
        raise ExportError("operation not permitted when stream is capturing")

    built.cuda.captured = refuse
    runner = built.runner()
    for _ in range(2):
        assert runner(_inputs())["score"] == 4.5
    assert "runs without a CUDA graph" in caplog.text


def test_state_stays_on_the_device(built: _Built) -> None:
    """What a call gives is the next one's state; an array that was written over is refused, a copy is not."""
    runner = built.runner()
    first = runner(_inputs())["next_memory"]
    assert isinstance(first, DeviceArray) and first.shape == (1, 1) and first.dtype == np.float32
    copy = np.asarray(first)
    state = {"state_memory": first, "state_continues": np.array([True])}
    second = runner({**_inputs(), **state})
    np.testing.assert_allclose(np.asarray(second["next_memory"]), copy + 1.5)
    with pytest.raises(ValueError, match="next_memory was overwritten by a later call"):
        runner({**_inputs(), **state})
    again = runner({**_inputs(), **state, "state_memory": copy})
    np.testing.assert_allclose(np.asarray(again["next_memory"]), copy + 1.5)
    kept = again["next_memory"]
    runner(_inputs(rows=9))  # of other shapes: other buffers
    np.testing.assert_allclose(np.asarray(kept), copy + 1.5)
    with pytest.raises(ValueError, match="without a copy"):
        kept.__array__(copy=False)
    runner.close()
    with pytest.raises(ValueError, match="overwritten"):
        np.asarray(kept)


def test_many_shapes_do_not_fill_the_device(built: _Built) -> None:
    runner = built.runner()
    for rows in range(2, 12):
        assert runner(_inputs(rows=rows))["score"] == 1.5 + rows
    assert len(built.cuda.graphs) == 4


def test_inputs_that_do_not_fit(built: _Built) -> None:
    runner, good = built.runner(), _inputs()
    bad: list[tuple[dict[str, Any], str]] = [
        ({"images": good["images"].astype(np.float32)}, "images must be uint8, got float32"),
        ({"images": np.zeros((5, 4), np.uint8)}, r"images has shape \(5, 4\), the engine is built for \(1, 4\) to"),
        ({"images": np.zeros(4, np.uint8)}, r"images has shape \(4,\)"),
        ({"pool_points": np.zeros((41, 8), np.int64)}, r"pool_points has shape \(41, 8\)"),
    ]
    for change, message in bad:
        with pytest.raises(ValueError, match=message):
            runner({**good, **change})
    with pytest.raises(ValueError, match=r"needs the inputs \['state_memory'\]"):
        runner({name: value for name, value in good.items() if name != "state_memory"})
    sparse = np.zeros((8, 8), np.uint8)[::8, ::2]
    assert runner({**good, "images": sparse})["score"] == 3, "inputs need not be dense"


def test_an_engine_that_fails_says_so(built: _Built) -> None:
    runner = built.runner()
    runner.engine._fails = True
    with pytest.raises(ExportError, match="the engine failed"):
        runner(_inputs())


def _changed(path: Path, **changes: Any) -> None:
    values = json.loads(notes_path(path).read_text())
    notes_path(path).write_text(json.dumps({**values, **changes}))


def test_a_wrong_engine_is_refused(built: _Built, tmp_path: Path) -> None:
    plan = built.path.read_bytes()
    built.path.write_bytes(plan + b"x")
    with pytest.raises(ExportError, match="not the engine that tiny.engine.json tells of"):
        built.runner()
    built.path.write_bytes(plan)
    with pytest.raises(ExportError, match=r"built by version 10.16.1.11, here is TensorRT 11.4.0.106"):
        EngineRunner(built.path, library=_library(ELEVEN, built.cuda), cuda=built.cuda)
    other: Any = HostCuda((9, 0))
    with pytest.raises(ExportError, match=r"built for a stand-in \(compute capability 8.6\), here .* 9.0"):
        EngineRunner(built.path, library=built.library, cuda=other)
    with pytest.raises(ExportError, match="it is of tensorrt, here is TensorRT-RTX"):
        rtx = Library(built.library.module, "tensorrt-rtx", "1.7")
        EngineRunner(built.path, library=rtx, cuda=built.cuda)
    rows = json.loads(notes_path(built.path).read_text())["bindings"]
    _changed(built.path, bindings=[{**rows[0], "name": "pictures"}, *rows[1:]])
    with pytest.raises(ExportError, match="pictures is missing; images is not in the notes"):
        built.runner()
    _changed(built.path, bindings=[{**rows[0], "type": "float32"}, *rows[1:]])
    with pytest.raises(ExportError, match=r"images is an input uint8 \(-1, 4\), the notes say float32"):
        built.runner()
    _changed(built.path, bindings=[{}])
    with pytest.raises(ExportError, match="damaged"):
        built.runner()
    _changed(built.path, format="else")
    with pytest.raises(ExportError, match="not of the format"):
        built.runner()
    notes_path(built.path).unlink()
    with pytest.raises(ExportError, match="no notes beside it"):
        open_runner(built.path)


def test_a_plan_that_the_library_does_not_load(built: _Built) -> None:
    from bev.deploy.tensorrt_file import sha256

    built.path.write_bytes(b"junk")
    _changed(built.path, engine_sha256=sha256(b"junk"))
    with pytest.raises(ExportError, match="cannot load .*: magic tag does not match"):
        built.runner()


@pytest.mark.parametrize(
    "built_by, here, fits",
    [(TEN, ELEVEN, True), ("10.0.1", TEN, True), (TEN, "10.0.1", False), (ELEVEN, TEN, False)],
)
def test_version_compatible_engines(built_by: str, here: str, fits: bool, tmp_path: Path) -> None:
    built = _Built(tmp_path, built_by, EngineOptions(version_compatible=True))
    library = _library(here, built.cuda)
    if not fits:
        with pytest.raises(ExportError, match="built by version"):
            EngineRunner(built.path, library=library, cuda=built.cuda)
        return
    runner = EngineRunner(built.path, library=library, cuda=built.cuda)
    assert runner._runtime.engine_host_code_allowed and runner(_inputs())["score"] == 4.5


def test_hardware_compatible_engines(tmp_path: Path) -> None:
    built = _Built(tmp_path, TEN, EngineOptions(hardware="ampere-plus"))
    for capability, fits in (((9, 0), True), ((8, 0), True), ((7, 5), False)):
        assert bool(read_notes(built.path).refusals(built.library, capability)) is not fits


def test_runs_without_torch(tmp_path: Path) -> None:
    """Building and running an engine, and running ONNX, in a process that cannot import torch."""
    code = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
from bev.deploy import EngineRunner, OnnxRunner, build_engine
from bev.deploy.tensorrt_api import Library
from tests.deploy.standin_tensorrt import HostCuda, standin
from tests.deploy.test_tensorrt import _inputs
from tests.deploy.tiny import write_tiny
folder, cuda = Path({str(tmp_path)!r}), HostCuda()
library = Library(standin({TEN!r}, cuda), "tensorrt", {TEN!r})
path = write_tiny(folder / "t.onnx")
engine = build_engine(path, folder / "t.engine", library=library, cuda=cuda)
print(EngineRunner(engine, library=library, cuda=cuda)(_inputs())["score"], OnnxRunner(path)(_inputs())["score"])
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["[[4.5]]"] * 2, done.stderr[-2000:]


def test_the_cuda_runtime_says_why_there_is_no_gpu() -> None:
    """With the real library and without a GPU: its own error, by name."""
    from bev.deploy import cuda

    try:
        cuda.find_library()
    except cuda.CudaError:
        pytest.skip("no CUDA runtime is installed")
    try:
        count = cuda.Cuda()
    except cuda.CudaError as error:
        assert "cudaGetDeviceCount: cudaError" in str(error) or "no CUDA device" in str(error)
    else:
        assert count.capability >= (5, 0)


@pytest.mark.gpu
def test_cuda_layer_on_a_gpu() -> None:
    """Copies there and back, pinned memory, events, a captured copy."""
    from bev.deploy.cuda import Cuda, host_array

    cuda = Cuda()
    stream, events = cuda.stream(), [cuda.event(), cuda.event()]
    host, device = [cuda.pinned(40) for _ in range(2)], [cuda.malloc(40) for _ in range(2)]
    source, target = (host_array(address, (10,), np.dtype("float32")) for address in host)
    source[...], target[...] = np.arange(10), 0
    cuda.record(events[0], stream)
    cuda.copy(device[0], host[0], 40, stream)
    graph = cuda.captured(stream, lambda: cuda.copy(device[1], device[0], 40, stream))
    cuda.launch(graph, stream)
    cuda.copy(host[1], device[1], 40, stream)
    cuda.record(events[1], stream)
    cuda.wait(stream)
    np.testing.assert_array_equal(source, target)
    assert cuda.elapsed_ms(*events) > 0 and cuda.name and cuda.capability >= (5, 0)
    with pytest.raises(ExportError, match="no CUDA device 99"):
        Cuda(99)


@pytest.mark.gpu
def test_engine_on_a_gpu(tmp_path: Path) -> None:
    """The real library: built, run with and without CUDA graphs, state on the device; equal to onnxruntime."""
    pytest.importorskip("tensorrt")
    path = write_tiny(tmp_path / "tiny.onnx")
    engine = build_engine(path, tmp_path / "tiny.engine", EngineOptions(level=1))
    reference = OnnxRunner(path)
    for cuda_graphs in (True, False):
        with EngineRunner(engine, cuda_graphs=cuda_graphs) as runner:
            state: dict[str, Any] = {}
            kept: dict[str, Any] = {}
            for step in range(4):
                inputs = _inputs(continues=step > 0)
                found, expected = runner({**inputs, **state}), reference({**inputs, **kept})
                np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-6)
                state, kept = {"state_memory": found["next_memory"]}, {"state_memory": expected["next_memory"]}
            assert runner.times_ms["network"] > 0
