"""Small detectors of each family, written as ONNX with a batch that varies: operators, numbers, boxes, errors."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.deploy import Exportable, ExportError, OnnxRunner, check_file, check_graph, write_onnx
from bev.deploy.build import as_batch
from bev.deploy.calibration import facts_of
from bev.deploy.check import predict
from bev.deploy.export import check_operators, example_arrays
from bev.deploy.finish import boxes3d_of
from bev.deploy.graph import DetectorGraph
from bev.deploy.graph_detector import GraphDetector, TemporalGraphDetector
from bev.deploy.parity import compare_boxes, first_divergent
from bev.deploy.tensorrt_rtx import build_engine
from bev.models.detectors import FrameStream, TemporalDetector
from bev.structures import ImageBatch
from tests.deploy import small

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
FURTHER = (
    *("bevdet_published", "bevdet4d", "bevdepth", "segmenter", "bevformer", "bevformer_lifted", "bevformer_proposals"),
    *("streampetr", "petr", "detr3d_dcn", "detr3d_vovnet", "detr3d_swin", "detr3d_seeded", "bevdet_depth"),
    "bevdepth_trunk",
)
DENSE = tuple(f"dense:{name}" for name in (
    *("retinanet_r50", "fcos_r50", "atss_r50", "gfl_r50", "tood_r50", "ppyoloe", "picodet", "efficientdet_d0"),
    *("ppyoloe_crn", "picodet_lcnet_coco", "one_to_one", "yolov3", "yolov3_tiny", "yolov5", "yolov7", "ssd300"),
))
# Each takes several seconds to export: BEV_EXPORT_ALL=1 writes the further ones, too.
FAMILIES = ("yolox", "bevdet", "detr3d", *((*FURTHER, *DENSE) if os.environ.get("BEV_EXPORT_ALL") else ()))


class _Written:
    """One family's file and what it was made of."""

    def __init__(self, name: str, folder: Path) -> None:
        self.example: Exportable = small.example(name)
        self.graph: DetectorGraph = self.example.graph(outputs="both")
        self.path = folder / f"{name.replace(':', '_')}.onnx"
        self.exported: Any = write_onnx(self.graph, self.path, dynamic_batch=True, metadata={"git": "abc"})


@pytest.fixture(scope="module", params=FAMILIES)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> _Written:
    return _Written(request.param, tmp_path_factory.mktemp("onnx"))


def test_standard_operators_alone(written: _Written) -> None:
    model = onnx.load(str(written.path))
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"GridSample", "NonMaxSuppression", "DeformConv", "Loop", "If", "BatchNormalization"}
    assert all(node.domain in ("", "ai.onnx") for node in model.graph.node) and not model.functions
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert check_operators(model) == []
    bad = onnx.helper.make_node("ScatterND", ["a", "b", "c"], ["d"], reduction="add", name="planted")
    model.graph.node.extend([bad, onnx.helper.make_node("GridSample", ["a", "b"], ["e"], name="g")])
    assert check_operators(model) == ["ScatterND with reduction add (planted)", "GridSample (g)"]


def test_equals_the_detector(written: _Written) -> None:
    """Raw outputs and scores within 1e-4 of torch, every layer too, and the detector's own boxes."""
    report = check_graph(written.example, written.graph, written.path, written.exported)
    assert report.passed, report.text()
    assert report.boxes or written.graph.facts.finish["kind"] == "cells"
    assert all(agreement.count > 5 for agreement in report.boxes), report.text()
    raw = [d for d in report.outputs if d.name != "score"]
    assert raw and all(d.relative < 5e-5 and d.largest > 0 for d in raw), report.text()
    assert len(report.layers) > 50 and "passed" in report.text()


def test_a_file_that_exists_is_proven_alone(written: _Written, tmp_path: Path) -> None:
    """As ``tools/check_graph.py`` does it; a changed last convolution is found."""
    report = check_file(written.example, written.path)
    assert report.passed and report.outputs, report.text()
    changed = onnx.load(str(written.path))
    last = [node for node in changed.graph.node if node.op_type == "Conv"][-1].input[1]
    weight = next(item for item in changed.graph.initializer if item.name == last)
    array = onnx.numpy_helper.to_array(weight) * np.float32(1.5)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(changed, tmp_path / "changed.onnx")
    report = check_file(written.example, tmp_path / "changed.onnx")
    assert not report.passed and "FAILED" in report.text()


def test_another_batch(written: _Written) -> None:
    """The frames one by one give what they give together."""
    runner = OnnxRunner(written.path, threads=1)
    together = runner(example_arrays(written.graph))
    example = written.example
    if example.state is not None:
        pytest.skip("the state is of both frames")
    for i in range(2):
        inputs = {"images": example.images[i : i + 1].numpy()}
        if example.rig is not None and runner.facts.calibration is not None:
            rig = _frame(example.rig, i)
            inputs |= {name: value.numpy() for name, value in facts_of(rig, runner.facts.calibration).items()}
        alone, name = runner(inputs), "score" if "score" in together else "probability"
        # Candidates of nearly the same score may change places with the rounding of another batch.
        np.testing.assert_allclose(np.sort(alone[name][0], 0), np.sort(together[name][i], 0), atol=1e-5)
    assert runner.more == {"git": "abc"}


def _frame(rig: Any, i: int) -> Any:
    parts = {n: getattr(rig, n)[i : i + 1] for n in ("intrinsics", "cam_from_ref", "image_aug", "timestamp_us")}
    return replace(rig, **parts)


def test_the_file_predicts_as_the_detector(written: _Written) -> None:
    """Behind a detector's doors: pictures, frames, and a second frame after a first one."""
    example = written.example
    if example.rig is None:
        eye, sizes = torch.eye(3, dtype=torch.float64).expand(2, 3, 3), [tuple(example.images.shape[-2:])] * 2
        batch: Any = ImageBatch(example.images, eye, sizes, ["a", "b"])  # type: ignore[arg-type]
    else:
        batch = as_batch(example.images, example.rig)
    file = GraphDetector(written.path)
    expected = example.model.predict(batch)  # type: ignore[operator]
    if isinstance(example.model, TemporalDetector) and example.model.remembers:
        file = TemporalGraphDetector(written.path, example.model)
        streams = [FrameStream(detector) for detector in (example.model, file)]
        first = replace(batch, images=batch.images.flip(-1), tokens=["a", "b"], scenes=["s", "t"])
        second = replace(batch, timestamp_us=batch.timestamp_us + 500_000, tokens=["c", "d"], scenes=["s", "t"])
        with torch.no_grad():
            expected, found = ([stream.predict(frame) for frame in (first, second)][1] for stream in streams)
        assert streams[0].continued == streams[1].continued == 2
    else:
        found = file.predict(batch)
    if isinstance(expected[0], torch.Tensor):
        torch.testing.assert_close(torch.stack(found), torch.stack(expected), atol=1e-4, rtol=0)
        return
    assert all(compare_boxes(a, b).unmatched == 0 for a, b in zip(expected, found))


def test_a_changed_layer_is_found(written: _Written) -> None:
    """A hundredth more in one weight of the middle of the graph: that layer is the first to differ."""
    from bev.deploy.parity import compare_layers

    changed = onnx.ModelProto()
    changed.CopyFrom(written.exported.model_proto)
    weights = {item.name: item for item in changed.graph.initializer if len(item.dims) == 4}
    convs = [node for node in changed.graph.node if node.op_type == "Conv" and node.input[1] in weights]
    conv = convs[len(convs) // 2]
    array = onnx.numpy_helper.to_array(weights[conv.input[1]]) * np.float32(1.01)
    weights[conv.input[1]].CopyFrom(onnx.numpy_helper.from_array(array, conv.input[1]))
    first = first_divergent(compare_layers(written.exported, example_arrays(written.graph), changed))
    assert first is not None and first.name == conv.output[0]


def test_calibration_is_used(written: _Written) -> None:
    """The same graph with other cameras finds the boxes that the detector finds with them."""
    example = written.example
    if example.rig is None:
        pytest.skip("pictures have no calibration")
    if written.graph.facts.finish["kind"] == "cells":
        pytest.skip("cells are no boxes")
    turned = torch.eye(4, dtype=torch.float64)
    turned[:2, :2] = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    rig = example.rig.augment_ref(turned)
    runner = OnnxRunner(written.path, threads=1)
    assert runner.facts.calibration is not None
    facts = {name: value.numpy() for name, value in facts_of(rig, runner.facts.calibration).items()}
    found = boxes3d_of(runner({**example_arrays(written.graph), **facts}), runner.facts.finish)
    expected = predict(replace(example, rig=rig))
    assert all(compare_boxes(a, b).unmatched == 0 for a, b in zip(expected, found))
    assert compare_boxes(predict(example)[0], found[0]).unmatched > 0
    with pytest.raises(ValueError, match="made for cameras"):
        runner.facts.calibration.check(replace(rig, names=rig.names[::-1]))


def test_tensorrt_rtx_builds(written: _Written, tmp_path: Path) -> None:
    """Parsed and built without a GPU, for two kinds of GPU."""
    pytest.importorskip("tensorrt_rtx_libs", exc_type=ImportError)
    pytest.importorskip("tensorrt_rtx_bindings", exc_type=ImportError)
    assert build_engine(written.path, tmp_path / "x.engine").stat().st_size > 10_000


@pytest.mark.parametrize("name", FURTHER)
def test_graphs_in_torch_find_the_boxes_of_the_detector(name: str) -> None:
    """Calibration as input and as a constant; state in, state out."""
    example = small.example(name)
    expected = predict(example)
    for bake in (False, True):
        graph = example.graph(bake)
        if bake:  # the calibration of the first frame stands for all
            rig = _frame(example.rig, 0)
            expected = predict(replace(example, rig=type(rig).stack([_unbatched(rig)] * len(example.images))))
        with torch.no_grad():
            given = dict(zip(graph.facts.outputs, graph(*graph.example.values())))
        if graph.facts.finish["kind"] == "cells":
            torch.testing.assert_close(given["probability"], torch.stack(list(expected)), atol=1e-5, rtol=0)
            continue
        found = boxes3d_of(given, graph.facts.finish)
        assert all(compare_boxes(a, b).unmatched == 0 and len(a) > 5 for a, b in zip(expected, found))
        states = {n.removeprefix("state_") for n in graph.facts.inputs if n.startswith("state_")}
        assert {n.removeprefix("next_") for n in graph.facts.outputs if n.startswith("next_")} <= states
        assert bool(states) == (example.state is not None)


def _unbatched(rig: Any) -> Any:
    parts = {n: getattr(rig, n)[0] for n in ("intrinsics", "cam_from_ref", "image_aug", "timestamp_us")}
    return replace(rig, **parts)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        OnnxRunner(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ExportError, match="cannot be run"):
        OnnxRunner(tmp_path / "bad.onnx")
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ExportError, match="not a graph of this library"):
        OnnxRunner(tmp_path / "other.onnx")
    with pytest.raises(ExportError, match="at least 2 frames"):
        write_onnx(small.detr3d(batch=1).graph(), tmp_path / "x.onnx", dynamic_batch=True)
    with pytest.raises(ValueError, match="no export form"):
        DetectorGraph(torch.nn.Identity(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
