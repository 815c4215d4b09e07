"""Fused operators: their kernels interpreted (or on CUDA) and compiled, their torch forms and registration on CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from bev.geometry.projection import in_image, project
from bev.models.coders import NMSFreeCoder
from bev.ops import candidates
from bev.ops import folded_deformable_attention as folded
from bev.ops import projected_sampling as projected
from bev.ops.camera_sampling import camera_sampling
from bev.ops.deformable_attention import multi_scale_deformable_attention
from tests.paths import REPO_ROOT

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
MODULES = ("fused_kernels", "operator_kernels")
# The quicker ones to compile of each family; BEV_COMPILE_ALL=1 compiles them all, in half a minute.
QUICK = (
    "attention forward",
    "camera sampling forward",
    "upright words",
    "suppression",
    "roi align backward",
    "furthest points",
    "carafe forward",
)


def _run(module: str, *arguments: str, interpret: bool = False) -> str:
    """A process of its own: the interpreter is chosen when a kernel is decorated."""
    environment = {**os.environ, "PYTHONPATH": str(REPO_ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", f"tests.ops.triton.{module}", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPO_ROOT, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@needs_triton
@pytest.mark.parametrize("module", MODULES)
def test_interpreted_values_and_gradients(module: str) -> None:
    assert _run(module, interpret=True).strip() == "equal"


@needs_triton
@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("module", MODULES)
def test_values_and_gradients_on_cuda(module: str) -> None:
    assert _run(module).strip() == "equal"


@pytest.mark.gpu
@needs_cuda
def test_pooling_needs_no_volume() -> None:
    """The peak of pooling on CUDA stays far below points x channels."""
    from bev.ops.bev_pool import bev_pool, plan_pool

    rows, bins, channels, cells = 4224, 59, 80, 16384
    cell = torch.randint(0, cells, (rows, bins), device="cuda")
    plan = plan_pool(cell, torch.rand(rows, bins, device="cuda") < 0.6, cells)
    leaves = [torch.rand(rows, size, device="cuda", requires_grad=True) for size in (bins, channels)]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    bev_pool(*leaves, plan).square().sum().backward()
    assert torch.cuda.max_memory_allocated() - before < rows * bins * channels * 4 / 3


@needs_triton
@pytest.mark.slow
def test_compiles_without_a_device() -> None:
    names = () if os.environ.get("BEV_COMPILE_ALL") else QUICK
    lines = _run("fused_compilation", *names).strip().splitlines()
    assert len(lines) == 2 * len(names) if names else len(lines) >= 2 * 28
    assert all(int(line.split()[-1]) > 1000 for line in lines)


def _attention(dtype: torch.dtype = torch.float64) -> tuple[Tensor, list[tuple[int, int]], Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    value = torch.randn(2, 10, 2, 3, generator=g, dtype=dtype)
    reference = torch.rand(2, 4, 2, 1, 4, generator=g, dtype=dtype)
    offsets = torch.randn(2, 4, 2, 2, 2, 2, generator=g, dtype=dtype)
    return value, [(2, 3), (4, 1)], reference, offsets, torch.randn(2, 4, 2, 2, 2, generator=g, dtype=dtype)


def test_folded_attention_is_its_parts() -> None:
    """Published formulas, written out: points move by cells of the map, boxes by shares of half their size."""
    value, shapes, boxes, offsets, logits = _attention()
    weights = logits.flatten(-2).softmax(-1).unflatten(-1, (2, 2))
    size = torch.tensor([[3.0, 2.0], [1.0, 4.0]], dtype=torch.float64)
    around_points = boxes[:, :, None, :, :, :2] + offsets / size[:, None]
    around_boxes = boxes[:, :, None, :, :, :2] + offsets / 2 * boxes[:, :, None, :, :, 2:] * 0.5
    for reference, locations in ((boxes[..., :2], around_points), (boxes, around_boxes)):
        ours = folded.folded_deformable_attention(value, shapes, reference, offsets, logits)
        torch.testing.assert_close(ours, multi_scale_deformable_attention(value, shapes, locations, weights))


def test_registration() -> None:
    value, shapes, *rest = _attention()
    sizes = [h for h, _ in shapes], [w for _, w in shapes]
    leaves = [x.requires_grad_() for x in (value, *rest)]
    torch.library.opcheck(folded._folded, (leaves[0], *sizes, *leaves[1:]))
    half = [x.detach().half() for x in leaves]
    torch.library.opcheck(folded._folded, (half[0], *sizes, *half[1:]), test_utils=("test_schema", "test_faketensor"))
    features, points, matrices, weights = _cameras()
    arguments = [[x.requires_grad_() for x in features], points.requires_grad_(), matrices, weights.requires_grad_()]
    torch.library.opcheck(projected._projected, (*arguments, 40, 64))
    logits, codes, heat = torch.randn(2, 7, 3), torch.randn(2, 7, 10), torch.randn(2, 2, 5, 4)
    limits = [-5.0] * 3 + [5.0] * 3
    torch.library.opcheck(candidates._query_candidates, (logits, codes, 9, limits, 0.1, False))
    maps, numbers = [torch.randn(2, 4, 5, 4), torch.randn(2, 6, 5, 4)], [0.0, 0.0, 0.5, 0.5, 5.0, *limits]
    torch.library.opcheck(candidates._center_candidates, (heat, maps, 9, numbers, 0.1, True, False))


def test_gradients_of_the_folded_operator() -> None:
    """The registered gradient, in float64 against differences."""
    value, shapes, *rest = _attention()
    sizes = [h for h, _ in shapes], [w for _, w in shapes]
    leaves = [x[:1].clone().requires_grad_() for x in (value, *rest)]
    assert torch.autograd.gradcheck(lambda v, *x: folded._folded(v, *sizes, *x), leaves, atol=1e-6)


def _cameras() -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 2, 3, 4 - level, 6, generator=g) for level in range(2)]
    matrices = torch.tensor([[20.0, 0, 30, 1], [0, 20, 20, 2], [0, 0, 1, 0.1], [0, 0, 0, 1]]).repeat(2, 2, 1, 1)
    points = torch.rand(2, 5, 1, 3, generator=g) * 4 - 1
    return features, points, matrices, torch.randn(2, 5, 2, 1, 2, generator=g)


def test_projected_sampling_is_its_parts() -> None:
    features, points, matrices, weights = _cameras()
    pixels, depth = project(points.squeeze(2), matrices)
    visible = in_image(pixels, depth, (40, 64))
    assert visible.any() and not visible.all()
    expected = camera_sampling(features, pixels.unsqueeze(3), visible.unsqueeze(3), weights, (40, 64))
    assert torch.equal(projected.projected_sampling(features, points, matrices, weights, (40, 64)), expected)


def test_query_candidates_are_those_of_the_coder() -> None:
    g = torch.Generator().manual_seed(0)
    logits, codes = torch.randn(30, 4, generator=g), torch.randn(30, 10, generator=g)
    for legacy in (False, True):
        coder = NMSFreeCoder(20, (-1.0, -1.0, -1.0, 1.0, 1.0, 1.0), 0.55, legacy_box_code=legacy)
        boxes = coder.decode(logits, codes)
        limits = (*coder.low_m, *coder.high_m)
        ours = candidates.query_candidates(logits[None], codes[None], 20, limits, 0.55, legacy).frame(0, "lidar")
        assert 0 < len(boxes) < 20
        assert torch.equal(ours.label, boxes.label) and torch.equal(ours.score, boxes.score)
        torch.testing.assert_close(ours.center_m, boxes.center_m)
        torch.testing.assert_close(ours.size_m, boxes.size_m)
        torch.testing.assert_close(ours.yaw_rad, boxes.yaw_rad)
        torch.testing.assert_close(ours.velocity_mps, boxes.velocity_mps)


def test_errors_name_the_shapes() -> None:
    value, shapes, boxes, offsets, logits = _attention()
    with pytest.raises(ValueError, match=r"do not add up to 10 rows"):
        folded.folded_deformable_attention(value, [(2, 3)], boxes, offsets, logits)
    with pytest.raises(ValueError, match=r"logits \(2, 4, 2, 2, 1\)"):
        folded.folded_deformable_attention(value, shapes, boxes, offsets, logits[..., :1])
    with pytest.raises(ValueError, match="reference has shape"):
        folded.folded_deformable_attention(value, shapes, boxes[..., :3], offsets, logits)
    features, points, matrices, weights = _cameras()
    with pytest.raises(ValueError, match="projected_sampling: points"):
        projected.projected_sampling(features, points[:, :, 0], matrices, weights, (40, 64))
    with pytest.raises(ValueError, match="no gradient of img_from_ref"):
        projected.projected_sampling(features, points, matrices.requires_grad_(), weights, (40, 64))
    with pytest.raises(ValueError, match="ten channels"):
        candidates.center_candidates(torch.zeros(1, 1, 2, 2), [torch.zeros(1, 9, 2, 2)], 3, (0.0, 0.0), (1.0, 1.0))
    with pytest.raises(ValueError, match="query_candidates: logits"):
        candidates.query_candidates(torch.zeros(1, 2, 3), torch.zeros(1, 3, 10), 3, (0.0,) * 6)
