"""The parity report sees what is planted: a changed layer, an overflow of half precision, a lost or moved box."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bev.deploy.check import against_float64
from bev.deploy.parity import compare, compare_boxes, compare_layers, difference, first_divergent, overflows
from bev.deploy.precise import float64_outputs
from bev.structures import Boxes2D
from tests.deploy import small
from tests.models.rigs import random_boxes

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class _Net(nn.Module):
    """Three convolutions; what leaves the second does not fit into float16, what the third makes of it does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = (nn.Conv2d(a, 4, 3) for a in (3, 4, 4))
        with torch.no_grad():
            self.second.weight *= 1e6
            self.third.weight *= 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x).relu()).relu()).relu()


@pytest.fixture(scope="module")
def exported() -> Any:
    program = torch.onnx.export(_Net().eval(), (torch.randn(1, 3, 12, 12),), dynamo=True, verbose=False)
    assert program is not None
    return program


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).normal(size=(1, 3, 12, 12)).astype(np.float32)}


def test_layers_agree_and_overflow_is_named(exported: Any, inputs: dict[str, np.ndarray]) -> None:
    layers = compare_layers(exported, inputs)
    assert len(layers) >= 6 and first_divergent(layers) is None
    found = overflows(layers)
    assert found and found[0].where.startswith("second") and not any(d.where.startswith("third") for d in found)


@pytest.mark.parametrize("planted", ["first", "second", "third"])
def test_first_divergent_layer_is_named(exported: Any, inputs: dict[str, np.ndarray], planted: str) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(exported.model_proto)
    (weight,) = (item for item in changed.graph.initializer if item.name == f"{planted}.weight")
    array = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    first = first_divergent(compare_layers(exported, inputs, changed))
    assert first is not None and first.where.startswith(planted)


def test_differences() -> None:
    a = np.array([1.0, -200.0, np.inf, np.nan])
    assert difference("a", a, a).relative == 0
    b = a.copy()
    b[0] = 1.02
    off = difference("a", a, b)
    assert off.relative == pytest.approx(1e-4) and off.worst == (0,) and off.largest == 200
    assert difference("a", a, np.array([1.0, -200.0, 3.0, np.nan])).relative == np.inf
    assert difference("a", a, a[:3]).relative == np.inf
    assert difference("a", np.zeros((0, 3)), np.zeros((0, 3))).relative == 0
    with pytest.raises(ValueError, match="outputs .'x'. are missing"):
        compare({"x": a}, {"y": a})


def test_boxes_are_paired() -> None:
    boxes = random_boxes(20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert compare_boxes(boxes, boxes[order]).unmatched == 0
    assert compare_boxes(boxes, boxes[:18]).unmatched == 2
    boxes.center_m[3, 0] += 0.005
    moved = compare_boxes(random_boxes(20), boxes)
    assert moved.unmatched == 0 and moved.place == pytest.approx(0.005, rel=1e-2)
    boxes.center_m[3, 0] += 1
    assert compare_boxes(random_boxes(20), boxes).unmatched == 2
    flat = Boxes2D(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]), torch.tensor([0.5]))
    other = Boxes2D(flat.xyxy_px, torch.tensor([2]), flat.score)
    assert compare_boxes(flat, other).unmatched == 2 and compare_boxes(flat, flat).unmatched == 0


def test_float64_tells_rounding_from_a_fault() -> None:
    """Torch's float32 is near to float64, and a file that is a hundredth off is far from it."""
    graph = small.detr3d(batch=1).graph(outputs="both")
    exact = float64_outputs(graph)
    assert {value.dtype for value in exact.values() if value.is_floating_point()} == {torch.float64}
    given = {name: value.numpy() for name, value in graph.expected.items()}
    given["cls_logits"] = given["cls_logits"] * np.float32(1.01)
    pairs = {ours.name: (ours.relative, theirs.relative) for ours, theirs in against_float64(graph, given)}
    assert {"cls_logits", "box_code"} <= set(pairs) and not {"boxes", "label"} & set(pairs)
    assert 0 < max(ours for ours, _ in pairs.values()) < 1e-5
    assert pairs["cls_logits"][1] == pytest.approx(1e-2, rel=1e-2) and pairs["box_code"][1] < 1e-5
    assert torch.get_default_dtype() == torch.float32
