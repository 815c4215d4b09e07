"""The plain numpy example: what it tells a detector with a memory is what the library tells it; it prints boxes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402

from bev.deploy.facts import METADATA, CalibrationSpec, GraphFacts, describe  # noqa: E402
from bev.deploy.memory import FrameMemory  # noqa: E402
from tests.deploy.test_memory import WAY  # noqa: E402
from tools import run_onnx  # noqa: E402

TOOL = Path(run_onnx.__file__)
MOTION = ["can_bus", "continues", "elapsed_s", "newest_from_ref", "ref_from_previous"]


@pytest.mark.parametrize("frame, wrap", [("lidar", True), ("ego", False)])
def test_state_is_the_librarys(frame: str, wrap: bool) -> None:
    state: dict[str, Any] = {"state_bev": [[3], "float32"], "state_continues": [[], "bool"]}
    description = {"state": state, "motion": {"names": MOTION, "frame": frame, "wrap": wrap}}
    ours, theirs = run_onnx.Memory(description), FrameMemory(description)
    for number, (scene, time_us, pose, continues) in enumerate(WAY):
        told = {"scene": scene, "timestamp_us": time_us, "global_from_ref": pose.tolist()}
        a, b = ours.enter(told), theirs.enter(scene, time_us, pose)
        assert a["state_continues"][0] == continues and set(a) == set(b)
        for name, value in b.items():
            assert a[name].dtype == value.dtype and a[name].shape == value.shape, name
            np.testing.assert_allclose(a[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
        outputs = {"next_bev": np.full((1, 3), number, np.float32), "score": np.zeros(1)}
        ours.leave(outputs)
        theirs.leave(outputs)


def _graph(path: Path) -> None:
    """One box whose x is the mean of all pictures since the recording began."""
    make, kinds = helper.make_node, {"images": TensorProto.UINT8, "state_continues": TensorProto.BOOL}
    shapes = {"images": [1, 2, 3, 4, 8], "state_sum": [1, 1], "state_continues": [1]}
    nodes = [
        make("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        make("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        make("Unsqueeze", ["mean", "last"], ["column"]),
        make("Cast", ["state_continues"], ["on"], to=TensorProto.FLOAT),
        make("Mul", ["state_sum", "on"], ["kept"]),
        make("Add", ["column", "kept"], ["next_sum"]),
        make("Unsqueeze", ["next_sum", "last"], ["x"]),
        make("Concat", ["x", "rest"], ["boxes"], axis=2),
        make("Identity", ["sure"], ["score"]),
        make("Identity", ["labels"], ["label"]),
        make("Identity", ["yes"], ["valid"]),
    ]
    constants = {
        "axes": np.array([1, 2, 3, 4]), "last": np.array([1]), "rest": np.ones((1, 1, 8), np.float32),
        "sure": np.full((1, 1), 0.9, np.float32), "labels": np.array([[1]]), "yes": np.array([[True]]),
    }  # fmt: skip
    kept = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    given = [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), shape) for n, shape in shapes.items()]
    types = {"boxes": 1, "score": 1, "label": 7, "valid": 9, "next_sum": 1}
    outputs = [helper.make_tensor_value_info(n, t, [1, 1, 9] if n == "boxes" else [1, 1]) for n, t in types.items()]
    graph = helper.make_graph(nodes, "sums", given, outputs, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    memory = {"state": {"state_sum": [[1], "float32"], "state_continues": [[], "bool"]}}
    memory["motion"] = {"names": ["continues"]}  # type: ignore[assignment]
    spec, finish = CalibrationSpec(("a", "b"), (4, 8)), {"kind": "query", "frame": "ego"}
    facts = GraphFacts(tuple(shapes), tuple(types), finish, spec, True, memory)
    text = json.dumps(describe(facts, {"classes": ["car", "truck"]}))
    model.metadata_props.append(onnx.StringStringEntryProto(key=METADATA, value=text))
    onnx.save(model, str(path))


def test_a_recording(tmp_path: Path) -> None:
    """In a process without torch: the memory goes on within a recording and begins anew after a gap."""
    _graph(tmp_path / "graph.onnx")
    frames = []
    for number, time_s in enumerate((0.0, 0.5, 9.0)):
        for camera in "ab":
            grey = np.full((10, 16, 3), 10 * (number + 1), np.uint8)
            Image.fromarray(grey).save(tmp_path / f"{camera}{number}.png")
        pictures = [f"{camera}{number}.png" for camera in "ab"]
        where = {"scene": "x", "timestamp_us": int(1e6 * time_s) + 1, "global_from_ref": np.eye(4).tolist()}
        frames.append({"pictures": pictures, **where})
    (tmp_path / "frames.json").write_text(json.dumps(frames))
    code = "import sys, runpy; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(TOOL), str(tmp_path / "graph.onnx")]

    def output(*rest: Path | str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *map(str, rest)], capture_output=True, text=True, timeout=120)

    done = output("--frames", tmp_path / "frames.json")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "truck" in line]
    assert [line.split("(")[1].split(",")[0].strip() for line in lines] == ["10.0", "30.0", "30.0"]
    alone = output(tmp_path / "a0.png", tmp_path / "b0.png")
    assert alone.returncode == 1 and "has a memory: give --frames" in alone.stderr
