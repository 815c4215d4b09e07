"""Official models over ``bev.ops`` against compiled mmcv: outputs of every part, boxes, losses and gradients.

Weights are a formula, inputs real pictures and a real sweep; the tolerances are those of the golden item's README,
which has what one float32 run differs from another (order of sums, near ties of top-k and suppression).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from projects.mmdet3d.tests import zoo
from tests.parity.golden import Golden
from tests.paths import golden_cases, golden_dir, real_data_dir

# Minutes each: `BEV_GOLDEN=... pytest -m slow projects/mmdet3d`.
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("path", golden_cases("zoo"), ids=lambda p: p.stem)]

# Behind the choice of proposals, near ties of which change places between two runs: compared as sets, or not at all.
AFTER_CHOICE = ("out.roi_head.",)
# Gradients as shares of the largest: nine tenths of the elements, all elements, norms. Batch norms in training mode and
# kinks of leaky ReLU part YOLOv3's from those of another order of sums; see the README of the golden item.
GRADIENTS, YOLOV3_GRADIENTS = (1e-3, 2e-3, 2e-3), (5e-3, 3e-2, 5e-3)


def _batch(golden: Golden, model: Any) -> dict[str, Any]:
    if "points" in golden.config["input"]:
        range_m = list(model.data_preprocessor.voxel_layer.point_cloud_range)
        return zoo.lidar_batch(golden, real_data_dir("nuscenes_frame"), range_m)
    if "in.cam2img" in golden:
        return zoo.mono_batch(golden, real_data_dir("nuscenes_frame"))
    return zoo.image_batch(golden, golden_dir("zoo"))


def _relative(ours: Tensor, expected: Tensor) -> Tensor:
    """Differences as a share of the largest expected value, sorted."""
    assert ours.shape == expected.shape
    scale = expected.double().abs().max().clamp(min=1e-12)
    return ((ours.double() - expected.double()).abs() / scale).flatten().sort().values


def _check(golden: Golden, key: str, tensor: Tensor, at_most: float) -> None:
    difference = _relative(zoo.stored(golden, key, tensor), golden[key])
    if len(difference):
        assert float(difference[int(0.99 * (len(difference) - 1))]) < at_most / 10, key
        assert float(difference[-1]) < at_most, key


def _check_boxes(golden: Golden, index: int, found: Any) -> None:
    """The best 100 by score; of near ties any: nine of ten boxes must be there, with their label and score."""
    keys = golden.group(f"out.pred.{index}")
    assert abs(len(found) - int(keys["num"])) <= max(1, 0.001 * int(keys["num"]))
    score, boxes, labels = (found[k] for k in _names(found))
    _check_scores(score, keys)
    tensor = getattr(boxes, "tensor", boxes)
    expected, expected_labels = (keys[name] for name in _names(found)[1:])
    same = (tensor[None] - expected[:, None]).abs().amax(-1) < 2e-5 * expected.abs().max()
    hit = (same & (labels[None] == expected_labels[:, None])).any(1)
    assert float(hit.float().mean()) >= 0.9, f"only {int(hit.sum())} of {len(hit)} boxes found"


def _names(found: Any) -> tuple[str, str, str]:
    return ("scores_3d", "bboxes_3d", "labels_3d") if "scores_3d" in found else ("scores", "bboxes", "labels")


def _check_scores(score: Tensor, keys: dict[str, Tensor]) -> None:
    expected = keys["scores_3d" if "scores_3d" in keys else "scores"]
    best = score.sort(descending=True).values[: len(expected)]
    torch.testing.assert_close(best, expected, atol=1e-4, rtol=1e-4)


def test_outputs_and_boxes(path: Path) -> None:
    golden = Golden(path)
    model, _ = zoo.build(golden)
    model.eval()
    data = model.data_preprocessor(_batch(golden, model), False)
    with torch.no_grad(), zoo.recorded(model) as outputs:
        results = model.predict(data["inputs"], data["data_samples"])
    named = zoo.named_outputs(outputs)
    expected = [key for key in golden.group("out") if not key.startswith(("pred", "proposals"))]
    assert not {f"out.{key}" for key in expected} - set(named)
    for key in (f"out.{key}" for key in expected):
        if not key.startswith(AFTER_CHOICE):
            _check(golden, key, named[key], at_most=1e-4)
    for index, result in enumerate(results):
        _check_boxes(golden, index, result.get("pred_instances_3d") or result.pred_instances)


def test_losses_and_gradients(path: Path) -> None:
    golden = Golden(path)
    model, _ = zoo.build(golden)
    model.train()
    data = model.data_preprocessor(_batch(golden, model), False)
    losses = model.loss(data["inputs"], data["data_samples"])
    summed = {name: sum(t.sum() for t in (v if isinstance(v, list) else [v])) for name, v in losses.items()}
    for name, value in summed.items():
        assert float(value.detach()) == pytest.approx(golden.config["losses"][name], rel=1e-4, abs=1e-6), name
    torch.stack([value for name, value in summed.items() if "loss" in name]).sum().backward()
    most, worst, norms = YOLOV3_GRADIENTS if "yolov3" in path.name else GRADIENTS
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, grad in gradients.items():
        norm = golden.config["grad_norms"][name]
        assert (grad is None) == (norm is None), name
        assert grad is None or float(grad.norm()) == pytest.approx(norm, rel=norms, abs=1e-6), name
    for key in golden.group("grad"):
        difference = _relative(zoo.stored(golden, f"grad.{key}", gradients[key]), golden[f"grad.{key}"])
        assert float(difference[int(0.9 * (len(difference) - 1))]) < most, key
        assert float(difference[-1]) < worst, key
