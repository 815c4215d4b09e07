"""The runner of engines, with stand-ins for TensorRT and the GPU.

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
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from bev.deploy.facts import ExportError  # noqa: E402
from bev.deploy.runtime import OnnxRunner, open_runner  # noqa: E402
from bev.deploy.tensorrt import EngineOptions, build_engine  # noqa: E402
from bev.deploy.tensorrt_api import Library  # noqa: E402
from bev.deploy.tensorrt_file import notes_path, read_notes  # noqa: E402
from bev.deploy.tensorrt_runner import DeviceArray, EngineRunner  # noqa: E402
from tests.deploy.standin_tensorrt import HostCuda  # noqa: E402
from tests.deploy.tiny import write_tiny  # noqa: E402
from tests.deploy.tiny_engine import ELEVEN, TEN, Built, inputs_of, library_of  # noqa: E402


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Built(tmp_path)


def test_runs_as_onnxruntime_does(built: Built) -> None:
    """Several shapes in turn, each launched and then replayed; nothing stays on the device afterwards."""
    runner, reference = built.runner(), OnnxRunner(built.onnx)
    for repeat in range(3):
        for batch, rows in ((1, 3), (4, 3), (2, 40)):
            inputs = inputs_of(batch, rows, memory=float(repeat), continues=bool(repeat % 2))
            found, expected = runner(inputs), reference(inputs)
            assert list(found) == ["score", "label", "next_memory"]
            for name, value in expected.items():
                np.testing.assert_array_equal(np.asarray(found[name]), value)
    assert built.cuda.launches == 6, "all but the first run of each shape are replayed graphs"
    assert set(runner.times_ms) == {"upload", "network", "download"}
    runner.close()
    assert not built.cuda.held and not built.cuda.handles and not built.cuda.graphs


def test_without_cuda_graphs(built: Built) -> None:
    with built.runner(cuda_graphs=False) as runner:
        for _ in range(2):
            found = runner(inputs_of())
    np.testing.assert_array_equal(found["score"], OnnxRunner(built.onnx)(inputs_of())["score"])
    assert built.cuda.launches == 0


def test_a_failed_capture_is_told_and_runs_go_on(built: Built, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(stream: int, work: Any) -> int:
        raise ExportError("operation not permitted when stream is capturing")

    built.cuda.captured = refuse
    runner = built.runner()
    for _ in range(2):
        assert runner(inputs_of())["score"] == 4.5
    assert "runs without a CUDA graph" in caplog.text


def test_state_stays_on_the_device(built: Built) -> None:
    """What a call gives is the next one's state; an array that was written over is refused, a copy is not."""
    runner = built.runner()
    first = runner(inputs_of())["next_memory"]
    assert isinstance(first, DeviceArray) and first.shape == (1, 1) and first.dtype == np.float32
    copy = np.asarray(first)
    state = {"state_memory": first, "state_continues": np.array([True])}
    second = runner({**inputs_of(), **state})
    np.testing.assert_allclose(np.asarray(second["next_memory"]), copy + 1.5)
    with pytest.raises(ValueError, match="next_memory was overwritten by a later call"):
        runner({**inputs_of(), **state})
    again = runner({**inputs_of(), **state, "state_memory": copy})
    np.testing.assert_allclose(np.asarray(again["next_memory"]), copy + 1.5)
    kept = again["next_memory"]
    runner(inputs_of(rows=9))  # of other shapes: other buffers
    np.testing.assert_allclose(np.asarray(kept), copy + 1.5)
    with pytest.raises(ValueError, match="without a copy"):
        kept.__array__(copy=False)
    runner.close()
    with pytest.raises(ValueError, match="overwritten"):
        np.asarray(kept)


def test_many_shapes_do_not_fill_the_device(built: Built) -> None:
    runner = built.runner()
    for rows in range(2, 12):
        assert runner(inputs_of(rows=rows))["score"] == 1.5 + rows
    assert len(built.cuda.graphs) == 4


def test_inputs_that_do_not_fit(built: Built) -> None:
    runner, good = built.runner(), inputs_of()
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


def test_an_engine_that_fails_says_so(built: Built) -> None:
    runner = built.runner()
    runner.engine._fails = True
    with pytest.raises(ExportError, match="the engine failed"):
        runner(inputs_of())


def _changed(path: Path, **changes: Any) -> None:
    values = json.loads(notes_path(path).read_text())
    notes_path(path).write_text(json.dumps({**values, **changes}))


def test_a_wrong_engine_is_refused(built: Built, tmp_path: Path) -> None:
    plan = built.path.read_bytes()
    built.path.write_bytes(plan + b"x")
    with pytest.raises(ExportError, match="not the engine that tiny.engine.json tells of"):
        built.runner()
    built.path.write_bytes(plan)
    with pytest.raises(ExportError, match=r"built by version 10.16.1.11, here is TensorRT 11.4.0.106"):
        EngineRunner(built.path, library=library_of(ELEVEN, built.cuda), cuda=built.cuda)
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


def test_a_plan_that_the_library_does_not_load(built: Built) -> None:
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
    built = Built(tmp_path, built_by, EngineOptions(version_compatible=True))
    library = library_of(here, built.cuda)
    if not fits:
        with pytest.raises(ExportError, match="built by version"):
            EngineRunner(built.path, library=library, cuda=built.cuda)
        return
    runner = EngineRunner(built.path, library=library, cuda=built.cuda)
    assert runner._runtime.engine_host_code_allowed and runner(inputs_of())["score"] == 4.5


def test_hardware_compatible_engines(tmp_path: Path) -> None:
    built = Built(tmp_path, TEN, EngineOptions(hardware="ampere-plus"))
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
from tests.deploy.tiny_engine import inputs_of
from tests.deploy.tiny import write_tiny
folder, cuda = Path({str(tmp_path)!r}), HostCuda()
library = Library(standin({TEN!r}, cuda), "tensorrt", {TEN!r})
path = write_tiny(folder / "t.onnx")
engine = build_engine(path, folder / "t.engine", library=library, cuda=cuda)
print(EngineRunner(engine, library=library, cuda=cuda)(inputs_of())["score"], OnnxRunner(path)(inputs_of())["score"])
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
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
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
                inputs = inputs_of(continues=step > 0)
                found, expected = runner({**inputs, **state}), reference({**inputs, **kept})
                np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-6)
                state, kept = {"state_memory": found["next_memory"]}, {"state_memory": expected["next_memory"]}
            assert runner.times_ms["network"] > 0
