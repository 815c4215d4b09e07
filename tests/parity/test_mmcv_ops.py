"""Operators against compiled mmcv 2.1 (golden item mmcv_ops): shapes and options come from the files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bev.ops.box_iou import box_iou
from bev.ops.deformable_attention import multi_scale_deformable_attention
from bev.ops.nms import nms, nms_match, soft_nms
from bev.ops.rotated_iou import box_iou_rotated, nms_rotated
from tests.parity.golden import Golden
from tests.paths import golden_cases

pytestmark = pytest.mark.parametrize("path", golden_cases("mmcv_ops"), ids=lambda p: p.stem)


def test_multi_scale_deformable_attention(path: Path) -> None:
    golden = Golden(path)
    name = "multi_scale_deformable_attn"
    inputs = golden.group(f"in.{name}")
    leaves = {k: inputs[k].requires_grad_() for k in ("value", "sampling_locations", "attention_weights")}
    value, locations, weights = leaves.values()
    result = multi_scale_deformable_attention(value, inputs["spatial_shapes"], locations, weights)
    torch.testing.assert_close(result, golden[f"out.{name}.0"], atol=2e-5, rtol=1e-5)
    result.backward(inputs["grad_out"])
    for key, gradient in golden.group(f"grad.{name}").items():
        torch.testing.assert_close(leaves[key].grad, gradient, atol=5e-5, rtol=1e-5)


def _same_order(score: Tensor, kept: Tensor, expected: Tensor) -> None:
    """Equal but for the order of boxes of one score, which mmcv leaves open (its sort is not stable)."""
    assert torch.equal(score[kept], score[expected])
    assert sorted(kept.tolist()) == sorted(expected.tolist())


def _cases(golden: Golden, start: str) -> list[str]:
    names = [name for name in golden.config if name.startswith(start)]
    assert names, f"no case of {start}"
    return names


def test_nms(path: Path) -> None:
    golden = Golden(path)
    for name in _cases(golden, "nms_thr") + _cases(golden, "nms_scorethr"):
        boxes, score = golden[f"in.{name}.boxes"], golden[f"in.{name}.scores"]
        _same_order(score, nms(boxes, score, **golden.config[name]), golden[f"out.{name}.1"])


def test_batched_nms(path: Path) -> None:
    golden = Golden(path)
    threshold = golden.config["batched_nms"]["iou_threshold"]
    for name in _cases(golden, "batched_nms"):
        inputs = golden.group(f"in.{name}")
        group = None if name.endswith("agnostic") else inputs["idxs"]
        kept = nms(inputs["boxes"], inputs["scores"], threshold, group)
        _same_order(inputs["scores"], kept, golden[f"out.{name}.1"])


def test_soft_nms(path: Path) -> None:
    golden = Golden(path)
    for name in _cases(golden, "soft_nms"):
        boxes, score = golden[f"in.{name}.boxes"], golden[f"in.{name}.scores"]
        kept, scores = soft_nms(boxes, score, **golden.config[name])
        _same_order(score, kept, golden[f"out.{name}.1"])
        torch.testing.assert_close(scores, golden[f"out.{name}.0"][:, 4], atol=1e-6, rtol=1e-5)


def test_nms_match(path: Path) -> None:
    golden = Golden(path)
    boxes, score = golden["in.nms_match.dets"].split([4, 1], 1)
    groups = nms_match(boxes, score[:, 0], golden.config["nms_match"]["iou_threshold"])
    expected = golden["out.nms_match.flat"].split(golden["out.nms_match.lens"].tolist())
    assert sorted(sorted(g.tolist()) for g in groups) == sorted(sorted(g.tolist()) for g in expected)
    _same_order(score[:, 0], torch.stack([g[0] for g in groups]), torch.stack([g[0] for g in expected]))


def test_bbox_overlaps(path: Path) -> None:
    golden = Golden(path)
    for name in _cases(golden, "bbox_overlaps"):
        a, b = golden[f"in.{name}.a"], golden[f"in.{name}.b"]
        torch.testing.assert_close(box_iou(a, b, **golden.config[name]), golden[f"out.{name}.0"], atol=1e-6, rtol=1e-5)


def test_box_iou_rotated(path: Path) -> None:
    golden = Golden(path)
    for name in _cases(golden, "box_iou_rotated"):
        a, b = golden[f"in.{name}.a"], golden[f"in.{name}.b"]
        iou = box_iou_rotated(a, b, **golden.config[name])
        torch.testing.assert_close(iou, golden[f"out.{name}.0"], atol=1e-5, rtol=0)


def _from_corners(boxes: Tensor) -> Tensor:
    """x1, y1, x2, y2, angle -> x, y, w, h, angle."""
    low, high, angle = boxes.split([2, 2, 1], 1)
    return torch.cat([(low + high) / 2, high - low, angle], 1)


def test_boxes_iou_bev(path: Path) -> None:
    """The stored call reads its rows as corners and an angle; sizes of these come out negative, some of them twice."""
    golden = Golden(path)
    a = golden["in.boxes_iou_bev.a"]
    b = golden["in.box_iou_rotated_iou_cw1.b"][: golden["out.boxes_iou_bev.0"].shape[1]]
    torch.testing.assert_close(
        box_iou_rotated(_from_corners(a), _from_corners(b)), golden["out.boxes_iou_bev.0"], atol=1e-5, rtol=0
    )


def test_nms_rotated(path: Path) -> None:
    """mmcv's CPU kernel does not look at the labels, its GPU kernel does; the numbers are the CPU's."""
    golden = Golden(path)
    for name in _cases(golden, "nms_rotated"):
        boxes, score = golden[f"in.{name}.dets"], golden[f"in.{name}.scores"]
        _same_order(score, nms_rotated(boxes, score, **golden.config[name]), golden[f"out.{name}.1"])
    boxes, score = golden["in.nms_bev.b"], golden["in.nms_bev.scores"]
    _same_order(score, nms_rotated(boxes, score, 0.2), golden["out.nms_bev.0"])
