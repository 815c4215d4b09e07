"""mmcv's own Python functions over ``bev.ops``, against compiled mmcv 2.1 (golden item mmcv_ops)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from projects.mmdet3d.ext import functions
from projects.mmdet3d.ext.missing import NotProvided
from tests.parity.golden import Golden
from tests.paths import golden_cases

GOLDEN = pytest.mark.parametrize("path", golden_cases("mmcv_ops"), ids=lambda p: p.stem)


def _cases(golden: Golden, start: str) -> list[str]:
    names = [name for name in golden.config if name.startswith(start)]
    assert names, f"no case of {start}"
    return names


def _close(ours: Tensor, expected: Tensor, name: str) -> None:
    torch.testing.assert_close(ours, expected, atol=5e-5, rtol=1e-5, msg=lambda text: f"{name}: {text}")


def _backwards(golden: Golden, name: str, result: Tensor, leaves: dict[str, Tensor]) -> None:
    result.backward(golden[f"in.{name}.grad_out"])
    gradients = golden.group(f"grad.{name}")
    assert gradients, f"no gradients of {name}"
    for key, gradient in gradients.items():
        grad = leaves[key].grad
        assert grad is not None, key
        _close(grad, gradient, f"gradient of {name}.{key}")


def test_every_name_that_mmcv_asks_for_is_answered() -> None:
    import ast

    import mmcv

    asked: set[str] = set()
    for path in (Path(mmcv.__file__).parent / "ops").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load_ext":
                asked |= set(ast.literal_eval(node.args[1]))
    assert asked == set(functions()), asked ^ set(functions())


def test_a_name_that_is_left_out_says_which() -> None:
    from mmcv.ops import SparseConv3d, nms_quadri

    with pytest.raises(NotProvided, match=r"mmcv\._ext\.nms_quadri"):
        nms_quadri(torch.rand(3, 8), torch.rand(3), 0.5)
    assert SparseConv3d is not None  # importable; only its call needs the extension
    with pytest.raises(NotProvided, match="sparse 3D convolution"):
        functions()["indice_conv_forward"]()


def test_a_detector_with_sparse_convolutions_says_what_it_needs() -> None:
    """mmdet3d's encoder of SECOND is built, and its first call names what is missing."""
    from mmdet3d.registry import MODELS
    from mmdet3d.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    sizes = {"in_channels": 4, "sparse_shape": [41, 64, 64], "order": ("conv", "norm", "act")}
    encoder = MODELS.build({"type": "mmdet3d.SparseEncoder", **sizes})
    with pytest.raises(NotProvided, match=r"get_indice_pairs_3d_forward.*sparse 3D convolution"):
        encoder(torch.randn(5, 4), torch.zeros(5, 4, dtype=torch.int32), 1)


def test_a_compiled_extension_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The finder is asked last: a real mmcv._ext wins."""
    import mmcv.ops

    (tmp_path / "_ext.py").write_text("compiled = True")
    assert mmcv.ops.nms is not None
    monkeypatch.delitem(sys.modules, "mmcv._ext")
    found = importlib.util.find_spec("mmcv._ext")
    assert found is not None and found.origin == "bev.ops"
    monkeypatch.setattr(mmcv, "__path__", [*mmcv.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    found = importlib.util.find_spec("mmcv._ext")
    assert found is not None and found.origin == str(tmp_path / "_ext.py")


@GOLDEN
def test_deformable_convolution(path: Path) -> None:
    from mmcv.ops import deform_conv2d, modulated_deform_conv2d

    golden = Golden(path)
    for name in _cases(golden, "deform_conv2d") + _cases(golden, "modulated_deform_conv2d"):
        leaves = {k: v.requires_grad_() for k, v in golden.group(f"in.{name}").items() if k != "grad_out"}
        c = golden.config[name]
        sizes = [c[key] for key in ("stride", "padding", "dilation", "groups", "deform_groups")]
        if name.startswith("modulated"):
            parts = [leaves[key] for key in ("input", "offset", "mask", "weight", "bias")]
            result = modulated_deform_conv2d(*parts, *sizes)
        else:
            result = deform_conv2d(leaves["input"], leaves["offset"], leaves["weight"], *sizes)
        _close(result, golden[f"out.{name}.0"], name)
        _backwards(golden, name, result, leaves)


@GOLDEN
def test_deformable_attention(path: Path) -> None:
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    golden, name = Golden(path), "multi_scale_deformable_attn"
    inputs = golden.group(f"in.{name}")
    leaves = {k: inputs[k].requires_grad_() for k in ("value", "sampling_locations", "attention_weights")}
    value, locations, weights = leaves.values()
    shapes = inputs["spatial_shapes"]
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    result = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)
    _close(result, golden[f"out.{name}.0"], name)
    _backwards(golden, name, result, leaves)


@GOLDEN
def test_regions(path: Path) -> None:
    from mmcv.ops import roi_align, roi_align_rotated

    golden = Golden(path)
    for name in _cases(golden, "roi_align_avg") + _cases(golden, "roi_align_max") + _cases(golden, "roi_align_rotated"):
        leaves = {"input": golden[f"in.{name}.input"].requires_grad_()}
        options = dict(golden.config[name])
        size, rois = options.pop("output_size"), golden[f"in.{name}.rois"]
        keys = ("spatial_scale", "sampling_ratio", "aligned", "clockwise")
        if name.startswith("roi_align_rotated"):
            result = roi_align_rotated(leaves["input"], rois, size, *(options[key] for key in keys))
        else:
            keys = ("spatial_scale", "sampling_ratio", "pool_mode", "aligned")
            result = roi_align(leaves["input"], rois, size, *(options[key] for key in keys))
        _close(result, golden[f"out.{name}.0"], name)
        if "max" in name:
            with pytest.raises(NotProvided, match="roi_align_backward"):
                result.sum().backward()
        else:
            _backwards(golden, name, result, leaves)


def _same(score: Tensor, kept: Tensor, expected: Tensor, name: str) -> None:
    """Equal but for the order of boxes of one score, which mmcv leaves open."""
    assert torch.equal(score[kept], score[expected]), name
    assert sorted(kept.tolist()) == sorted(expected.tolist()), name


@GOLDEN
def test_suppression(path: Path) -> None:
    from mmcv.ops import batched_nms, nms, nms_match, nms_rotated, soft_nms

    golden = Golden(path)
    for name in _cases(golden, "nms_thr") + _cases(golden, "nms_scorethr"):
        boxes, score = golden[f"in.{name}.boxes"], golden[f"in.{name}.scores"]
        _same(score, nms(boxes, score, **golden.config[name])[1], golden[f"out.{name}.1"], name)
    for name in _cases(golden, "batched_nms"):
        boxes, score, index = (golden[f"in.{name}.{key}"] for key in ("boxes", "scores", "idxs"))
        options = {"type": "nms", "iou_threshold": golden.config["batched_nms"]["iou_threshold"]}
        kept = batched_nms(boxes, score, index, options, class_agnostic=name.endswith("agnostic"))[1]
        _same(score, kept, golden[f"out.{name}.1"], name)
    for name in _cases(golden, "soft_nms"):
        boxes, score = golden[f"in.{name}.boxes"], golden[f"in.{name}.scores"]
        dets, kept = soft_nms(boxes, score, **golden.config[name])
        _same(score, kept, golden[f"out.{name}.1"], name)
        _close(dets[:, 4], golden[f"out.{name}.0"][:, 4], name)
    for name in _cases(golden, "nms_rotated"):
        boxes, score = golden[f"in.{name}.dets"], golden[f"in.{name}.scores"]
        labels = golden[f"in.{name}.labels"] if f"in.{name}.labels" in golden else None
        _same(score, nms_rotated(boxes, score, labels=labels, **golden.config[name])[1], golden[f"out.{name}.1"], name)
    dets = golden["in.nms_match.dets"]
    groups = nms_match(dets, golden.config["nms_match"]["iou_threshold"])
    expected = golden["out.nms_match.flat"].split(golden["out.nms_match.lens"].tolist())
    assert sorted(sorted(g.tolist()) for g in groups) == sorted(sorted(g.tolist()) for g in expected)


@GOLDEN
def test_overlaps(path: Path) -> None:
    from mmcv.ops import bbox_overlaps, box_iou_rotated, boxes_iou_bev, nms_bev

    golden = Golden(path)
    for start, function in (("bbox_overlaps", bbox_overlaps), ("box_iou_rotated", box_iou_rotated)):
        for name in _cases(golden, start):
            a, b = golden[f"in.{name}.a"], golden[f"in.{name}.b"]
            _close(function(a, b, **golden.config[name]), golden[f"out.{name}.0"], name)
    a, b = golden["in.boxes_iou_bev.a"], golden["in.box_iou_rotated_iou_cw1.b"][:5]
    _close(boxes_iou_bev(a, b), golden["out.boxes_iou_bev.0"], "boxes_iou_bev")
    boxes, score = golden["in.nms_bev.b"], golden["in.nms_bev.scores"]
    low, high = boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2
    kept = nms_bev(torch.cat([low, high, boxes[:, 4:]], 1), score, 0.2)
    _same(score, kept, golden["out.nms_bev.0"], "nms_bev")


@GOLDEN
def test_points_and_voxels(path: Path) -> None:
    from mmcv.ops import Voxelization, points_in_boxes_cpu

    golden, name = Golden(path), "points_in_boxes_cpu"
    inside = points_in_boxes_cpu(golden[f"in.{name}.points"], golden[f"in.{name}.boxes"])
    assert torch.equal(inside, golden[f"out.{name}.0"])
    for name in _cases(golden, "voxelize"):
        c = golden.config[name]
        layer = Voxelization(c["voxel_size"], c["point_cloud_range"], c["max_num_points"], c.get("max_voxels", -1))
        result: Any = layer(golden[f"in.{name}.points"])
        parts = (result,) if isinstance(result, Tensor) else result
        for ours, expected in zip(parts, golden.sequence(f"out.{name}"), strict=True):
            assert torch.equal(ours, expected), name
