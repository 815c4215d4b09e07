"""The C++ example compiles and prints the boxes of the Python pipeline. Skipped where there is no compiler, or where
onnxruntime's C++ headers are not found (``ONNXRUNTIME_INCLUDE`` names their folder)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402

from bev.data.folder import FolderDataset  # noqa: E402
from bev.deploy import Pipeline  # noqa: E402
from bev.deploy.facts import METADATA, CalibrationSpec, GraphFacts, describe  # noqa: E402
from bev.structures.conventions import CAMERAS_DETR3D, CLASSES  # noqa: E402
from tests.deploy.test_loop import write_six_cameras  # noqa: E402

SOURCES = Path(__file__).resolve().parents[2] / "examples/cpp"
SIZE = (48, 96)
FINISH: dict[str, dict[str, Any]] = {
    "query": {"kind": "query", "frame": "lidar"},
    "center": {"kind": "center", "frame": "lidar", "radius_m": [120.0] * 10, "max_boxes": 5, "evidence": 0.3},
}


def _headers() -> Path | None:
    named = os.environ.get("ONNXRUNTIME_INCLUDE")
    places = [Path(named)] if named else []
    places += [Path(root) / part for root in ("/usr/include", "/usr/local/include") for part in ("", "onnxruntime")]
    return next((place for place in places if (place / "onnxruntime_cxx_api.h").is_file()), None)


def _library() -> Path | None:
    """Of the Python wheel."""
    return next(iter(sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))), None)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler, headers, library = shutil.which("g++"), _headers(), _library()
    if compiler is None or headers is None or library is None:
        missing = {"g++": compiler, "onnxruntime_cxx_api.h": headers, "libonnxruntime.so": library}
        pytest.skip(f"not found: {', '.join(name for name, place in missing.items() if place is None)}")
    out = tmp_path_factory.mktemp("cpp") / "bev_detect"
    command = [compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-isystem", str(headers)]
    (out.parent / "libonnxruntime.so.1").symlink_to(library)  # the name that the linker notes; the wheel lacks it
    command += [str(SOURCES / "main.cpp"), str(library), f"-Wl,-rpath,{out.parent}", "-o", str(out)]
    subprocess.run(command, check=True, timeout=600)
    return out


def _graph(path: Path, kind: str, inputs: tuple[str, ...] = ("images", "img_from_ref", "ref_from_img")) -> Path:
    """One candidate a camera: its numbers are those of the inputs, so whatever is read wrongly shows in a box."""
    shapes = {"images": [1, 6, 3, *SIZE], "img_from_ref": [1, 6, 4, 4], "ref_from_img": [1, 6, 4, 4]}
    kinds = {"images": TensorProto.UINT8}
    make = helper.make_node
    nodes = [
        make("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        make("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        make("Div", ["mean", "full"], ["score"]),
        make("Gather", ["img_from_ref", "first"], ["there"], axis=2),
        make("Gather", ["ref_from_img", "second"], ["back"], axis=2),
        make("Unsqueeze", ["score", "last"], ["column"]),
        make("Concat", ["there", "back", "column"], ["boxes"], axis=2),
        make("Identity", ["labels"], ["label"]),
        make("Greater", ["score", "low"], ["valid"]),
        make("Greater", ["score", "high"], ["seen"]),
        make("Sub", ["one", "score"], ["evidence"]),
    ]
    constants = {
        "axes": np.array([2, 3, 4]), "full": np.float32(255), "first": np.int64(0), "second": np.int64(1),
        "last": np.array([2]), "labels": np.array([[0, 0, 5, 5, 0, 9]]), "low": np.float32(0.2),
        "high": np.float32(0.45), "one": np.float32(1),
    }  # fmt: skip
    kept = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    given = [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), shapes.get(n, [1])) for n in inputs]
    types = {"boxes": 1, "score": 1, "label": 7, "valid": 9, "seen": 9, "evidence": 1}
    outputs = [
        helper.make_tensor_value_info(n, kind_, [1, 6, 9] if n == "boxes" else [1, 6]) for n, kind_ in types.items()
    ]
    graph = helper.make_graph(nodes, "candidates", given, outputs, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    facts = GraphFacts(inputs, tuple(types), FINISH[kind], CalibrationSpec(CAMERAS_DETR3D, SIZE), False)
    more = {"classes": list(CLASSES), "image": {"type": "ImageTransform", "size": SIZE, "method": "area"}}
    more["note"] = 'quotes " and \\ and umlauts \u00e4 and signs \u2211'
    text = json.dumps(describe(facts, more))
    model.metadata_props.append(onnx.StringStringEntryProto(key=METADATA, value=text))
    onnx.save(model, str(path))
    return path


def _pictures(source: Path) -> list[Path]:
    """Smooth pictures of growing brightness, as PNG for Python and PPM for C++."""
    found, rng = [], np.random.default_rng(3)
    for i, name in enumerate(CAMERAS_DETR3D):
        values = rng.integers(10 * i, 50 + 40 * i, (8, 12, 3)).astype(np.uint8)
        picture = cv2.resize(values, (192, 128))
        cv2.imwrite(str(source / f"images/{name}/monday0.png"), picture)
        found.append(source / f"{name}.ppm")
        cv2.imwrite(str(found[-1]), picture)
    return found


def _run(program: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("kind", FINISH)
def test_boxes_are_those_of_python(kind: str, program: Path, tmp_path: Path) -> None:
    """From calib.json and pictures of twice the network's size and more rows."""
    source = write_six_cameras(tmp_path / "rig")
    pictures, graph = _pictures(source), _graph(tmp_path / "graph.onnx", kind)
    sample = FolderDataset(str(source), frame="lidar", cameras=CAMERAS_DETR3D)[0]
    boxes = Pipeline(graph)(list(sample.images.permute(0, 2, 3, 1).numpy()), sample.rig)
    done = _run(program, graph, source / "calib.json", *pictures)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert 3 <= len(rows) == len(boxes) < 6, "some are dropped"
    assert [row[0] for row in rows] == [CLASSES[label] for label in boxes.label.tolist()]
    columns = np.array([[float(value) for value in row[1:]] for row in rows])
    np.testing.assert_allclose(columns[:, 0], boxes.score.numpy(), atol=2e-3)  # half a grey level of a resized pixel
    expected = np.concatenate([boxes.center_m, boxes.size_m, boxes.yaw_rad[:, None], boxes.velocity_mps[:, :1]], 1)
    np.testing.assert_allclose(columns[:, 1:9], expected, rtol=2e-6, atol=2e-5)


def test_what_is_wrong_is_one_line(program: Path, tmp_path: Path) -> None:
    source = write_six_cameras(tmp_path / "rig")
    pictures, calibration = _pictures(source), source / "calib.json"
    graph = _graph(tmp_path / "graph.onnx", "query")
    other = _graph(tmp_path / "other.onnx", "query", ("images", "img_from_ref", "ref_from_img", "pool_points"))
    cut = tmp_path / "cut.ppm"
    cut.write_bytes(pictures[0].read_bytes()[:-5])
    bad = tmp_path / "bad.json"
    bad.write_text(calibration.read_text()[:-9])
    cases: list[tuple[list[Path], str]] = [
        ([graph, calibration, *pictures[:5]], "5 pictures for 6 cameras"),
        ([other, calibration, *pictures], "wants pool_points: export it with --bake"),
        ([graph, calibration, cut, *pictures[1:]], "the file ends before the picture does"),
        ([graph, calibration, calibration, *pictures[1:]], "not a PPM file"),
        ([graph, bad, *pictures], "JSON: "),
        ([graph, tmp_path / "none.json", *pictures], "none.json cannot be read"),
        ([tmp_path / "none.onnx", calibration, *pictures], "none.onnx"),
    ]
    for arguments, message in cases:
        done = _run(program, *arguments)
        assert done.returncode == 1 and message in done.stderr, (message, done.stderr)
        assert done.stderr.startswith("error: ") and not done.stdout
