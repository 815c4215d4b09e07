"""Fused operators through their kernels, on CUDA or interpreted, against plain forms in float64; run as a script.

Bounds are shares of the largest magnitude of what is expected: 1e-5 in float32; in half precision what a rounding of
inputs and outputs leaves, since sums are float32.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bev.deploy.plugins import PLUGINS
from bev.deploy.plugins.definitions import run
from bev.geometry.projection import MIN_DEPTH_M
from bev.models.attention import spatial_cross_attention, temporal_self_attention
from bev.models.attention.deformable import RawSamples
from bev.ops import bev_pool as pooling
from bev.ops import camera_sampling as sampling
from bev.ops import candidates, nms, rotated_iou
from bev.ops.deform_conv import deform_conv2d
from bev.ops.deformable_attention import _attention_reference
from bev.ops.folded_deformable_attention import folded_deformable_attention, sampling_points
from bev.ops.projected_sampling import projected_sampling
from bev.ops.triton import candidates as ranking

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BOUNDS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def _close(name: str, ours: Tensor, plain: Tensor, dtype: torch.dtype = torch.float32) -> None:
    assert ours.shape == plain.shape, (name, ours.shape, plain.shape)
    assert torch.equal(ours.isnan(), plain.isnan()), f"{name}: NaN elsewhere"
    ours, plain = ours.double().nan_to_num(), plain.double().nan_to_num()
    if plain.numel():
        error, scale = (ours - plain).abs().max().item(), max(1.0, plain.abs().max().item())
        assert error <= BOUNDS[dtype] * scale, f"{name} in {dtype}: {error} off, largest value {scale}"


def _compare(
    name: str, dtype: torch.dtype, inputs: Sequence[Tensor], ours: Callable[..., Tensor], plain: Callable[..., Tensor]
) -> None:
    """Values, and the gradients of all inputs, against the plain form in float64."""
    exact = [x.detach().double().requires_grad_() for x in inputs]
    leaves = [x.detach().requires_grad_() for x in inputs]
    expected, found = plain(*exact), ours(*leaves)
    _close(name, found, expected, dtype)
    grad = torch.randn_like(found)
    ours_grads = torch.autograd.grad(found, leaves, grad)
    for i, (mine, other) in enumerate(zip(ours_grads, torch.autograd.grad(expected, exact, grad.double()))):
        assert mine.dtype == leaves[i].dtype
        _close(f"gradient {i} of {name}", mine, other, dtype)


def _plain_attention(shapes: list[tuple[int, int]]) -> Callable[..., Tensor]:
    heights, widths = [h for h, _ in shapes], [w for _, w in shapes]

    def plain(value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        weights = logits.flatten(-2).softmax(-1).view(logits.shape)
        locations = sampling_points(reference, offsets, heights, widths)
        return _attention_reference(value, heights, widths, locations, weights)

    return plain


def _attention_inputs(
    dtype: torch.dtype, shapes: list[tuple[int, int]], reference: tuple[int, ...], sizes: tuple[int, ...]
) -> list[Tensor]:
    """Value, reference, offsets and logits, the last three dealt out of larger tensors as the modules do."""
    heads, channels, queries, points = sizes
    levels, pixels = len(shapes), sum(h * w for h, w in shapes)
    value = torch.randn(2, 2, pixels, heads, channels, device=DEVICE).to(dtype)[:, 1]
    near = torch.rand(2, queries, *reference, device=DEVICE) * 1.4 - 0.2
    offsets = torch.randn(2, queries, heads, 2, levels, points, 2, device=DEVICE).to(dtype)[:, :, :, 1] * 2
    logits = torch.randn(2, queries, heads, 2, levels, points, device=DEVICE).to(dtype)[:, :, :, 0]
    return [value, near, offsets, logits]


def check_attention() -> None:
    """Points on levels of their own or of a pillar, boxes, channels that fill no block; NaN only where it belongs."""
    for dtype, shapes, reference, sizes in (
        (torch.float32, [(5, 7), (1, 1)], (1, 1, 2), (3, 6, 4, 2)),
        (torch.float16, [(5, 7), (3, 4)], (2, 1, 4), (2, 4, 3, 1)),
        (torch.bfloat16, [(4, 6)], (1, 2, 2), (2, 8, 3, 4)),
    ):
        inputs = _attention_inputs(dtype, shapes, reference, sizes)
        plain = _plain_attention(shapes)
        ours = lambda value, *rest: folded_deformable_attention(value, shapes, *rest)  # noqa: B023, E731
        _compare("folded attention", dtype, inputs, ours, plain)
    inputs = _attention_inputs(torch.float32, [(3, 4)], (1, 1, 2), (2, 4, 3, 2))
    inputs[3][0, 1, 1, 0, 1] = torch.nan
    unknown = folded_deformable_attention(inputs[0], [(3, 4)], *inputs[1:]).isnan()
    assert unknown[0, 1, 4:].all() and unknown.sum() == 4
    none = [inputs[0], *(x[:, :0] for x in inputs[1:])]
    assert folded_deformable_attention(none[0], [(3, 4)], *none[1:]).shape == (2, 0, 8)


def check_modules() -> None:
    """BEVFormer's attentions are the same folded and unfolded."""
    temporal = temporal_self_attention.TemporalSelfAttention(16, num_heads=2, num_points=2, dropout=0.0).to(DEVICE)
    spatial = spatial_cross_attention.SpatialCrossAttention(16, 2, num_heads=2, num_points=4, dropout=0.0).to(DEVICE)
    for module in (temporal.sampling_offsets, temporal.attention_weights):
        torch.nn.init.normal_(module.weight, std=0.3)
    for module in (spatial.deformable_attention.sampling_offsets, spatial.deformable_attention.attention_weights):
        torch.nn.init.normal_(module.weight, std=0.3)
    query, position = torch.randn(2, 6, 16, device=DEVICE), torch.randn(2, 6, 16, device=DEVICE)
    points = torch.rand(2, 2, 6, 2, device=DEVICE)
    values = torch.randn(2, 3, 16, 16, device=DEVICE)
    tokens = spatial_cross_attention.CameraTokens(values, [(3, 4), (2, 2)])
    pillars = spatial_cross_attention.Pillars(
        torch.rand(2, 3, 6, 2, 2, device=DEVICE), torch.rand(2, 3, 6, 2, device=DEVICE) < 0.5
    )
    raw = spatial.deformable_attention.raw(query, tokens.shapes)[0]
    finished = spatial.deformable_attention.finished(raw, tokens.shapes)
    listed = pillars.visible.any(-1)
    maps = values.unflatten(-1, (2, 8)).flatten(0, 1)
    forms = (raw, finished)
    read = [spatial_cross_attention._read_listed(maps, tokens.shapes, s, pillars.points, listed) for s in forms]
    assert isinstance(raw, RawSamples)
    _close("spatial attention", read[0], read[1].detach())
    folded = temporal(query, position, points, None, (2, 3))
    samples = temporal.raw(torch.cat([query, query + position], -1), [(2, 3)])
    plain = 0.0
    for index, part in enumerate(samples):
        offset, weight = temporal.finished(part, [(2, 3)])
        location = points[:, index, :, None, None, None] + offset
        plain = plain + _attention_reference(temporal.values(query), [2], [3], location, weight)
    _close("temporal attention", folded, query + temporal.output_proj(plain / 2))


def _sampling_inputs(dtype: torch.dtype, levels: int, points: int, channels: int, last: bool) -> list[Tensor]:
    sizes = [(6 - level, 9 - 2 * level) for level in range(levels)]
    features = [torch.randn(2, 2, channels, *size, device=DEVICE).to(dtype) for size in sizes]
    if last:
        features = [x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3) for x in features]
    points_m = torch.rand(2, 5, points, 3, device=DEVICE) * 10 - 5
    return [*features, points_m, torch.randn(2, 5, 2, points, levels, device=DEVICE)]


def _matrices() -> Tensor:
    matrices = torch.zeros(2, 2, 4, 4, device=DEVICE)
    for camera, side in enumerate((1.0, -1.0)):
        rows = [[20.0, 0, 30 * side, 1], [0, 20, 20 * side, 2], [0, 0, side, 0.1], [0, 0, 0, 1]]
        matrices[:, camera] = torch.tensor(rows, device=DEVICE)
    return matrices


def _plain_projected(matrices: Tensor, size_px: tuple[int, int]) -> Callable[..., Tensor]:
    def plain(*inputs: Tensor) -> Tensor:
        *features, points_m, weights = inputs
        ones = torch.ones_like(points_m[..., :1])
        seen = torch.einsum("bnij,bqpj->bnqpi", matrices.double(), torch.cat([points_m, ones], -1))
        pixels = seen[..., :2] / seen[..., 2:3].clamp(min=MIN_DEPTH_M)
        limits = pixels.new_tensor([size_px[1], size_px[0]])
        visible = (seen[..., 2] > MIN_DEPTH_M) & ((pixels > 0) & (pixels < limits)).all(-1)
        assert 0.1 < visible.double().mean() < 0.9
        return sampling._camera_sampling_reference(features, pixels, visible, weights, size_px)

    return plain


def check_sampling() -> None:
    """Projected here and given as pixels; strided and channels_last maps; points nobody sees and points unknown."""
    matrices, size_px = _matrices(), (40, 64)
    for dtype, levels, points, channels, last in (
        (torch.float32, 2, 2, 6, False),
        (torch.float16, 1, 1, 8, True),
        (torch.bfloat16, 1, 1, 300, True),
    ):
        inputs = _sampling_inputs(dtype, levels, points, channels, last)
        ours = lambda *x: projected_sampling(x[:-2], x[-2], matrices, x[-1], size_px)  # noqa: E731
        _compare("projected sampling", dtype, inputs, ours, _plain_projected(matrices, size_px))
    inputs = _sampling_inputs(torch.float32, 2, 2, 6, True)
    pixels = torch.rand(2, 2, 5, 2, 2, device=DEVICE) * 70 - 3
    visible = torch.rand(2, 2, 5, 2, device=DEVICE) < 0.6
    pixels[~visible] = torch.nan
    leaves = [*inputs[:2], pixels.nan_to_num(5.0), inputs[3]]
    ours = lambda *x: sampling.camera_sampling(x[:2], x[2], visible, x[3], size_px)  # noqa: E731
    plain = lambda *x: sampling._camera_sampling_reference(x[:2], x[2], visible, x[3], size_px)  # noqa: E731
    _compare("camera sampling", torch.float32, leaves, ours, plain)
    found = sampling.camera_sampling(inputs[:2], pixels, visible, inputs[3], size_px)
    _close("unseen pixels", found, ours(*leaves))
    unknown = torch.full_like(inputs[2], torch.nan)
    assert not projected_sampling(inputs[:2], unknown, matrices, inputs[3], size_px).any()
    assert projected_sampling(inputs[:2], unknown[:, :0], matrices, inputs[3][:, :0], size_px).shape == (2, 0, 6)


def check_pool() -> None:
    """Half precision summed in float32: many equal addends lose nothing; gradients repeat bit by bit."""
    cell = torch.randint(0, 7, (24, 11), device=DEVICE)
    plan = pooling.plan_pool(cell, torch.rand(24, 11, device=DEVICE) < 0.7, 7)
    plain = lambda *x: pooling._bev_pool_reference(*x, plan)  # noqa: E731
    ours = lambda *x: pooling.bev_pool(*x, plan)  # noqa: E731
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        inputs = [torch.rand(24, 11, device=DEVICE).to(dtype), torch.randn(24, 70, device=DEVICE).to(dtype)]
        _compare("pooling", dtype, inputs, ours, plain)
    leaves = [x.requires_grad_() for x in inputs]
    grads = [torch.autograd.grad(ours(*leaves).float().square().sum(), leaves) for _ in range(2)]
    assert all(torch.equal(first, second) for first, second in zip(*grads))
    ones = torch.ones(520, 4, device=DEVICE, dtype=torch.float16)
    same = pooling.plan_pool(torch.zeros_like(ones, dtype=torch.int64), ones > 0, 1)
    assert pooling.bev_pool(ones, ones[:, :1], same).item() == 2080  # a half-precision sum would stop at 2048


def _boxes(count: int, rotated: bool) -> Tensor:
    boxes = torch.rand(count, 5, device=DEVICE) * torch.tensor([12, 12, 6, 4, 6.3], device=DEVICE)
    if not rotated:
        boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], 1)
    if count > 10:
        boxes[7], boxes[8] = torch.nan, boxes[9]
    return boxes


def _plain_kept(overlap: Tensor, score: Tensor, group: Tensor | None, threshold: float) -> Tensor:
    removes = overlap > threshold
    if group is not None:
        removes = removes & (group[:, None] == group)
    kept: list[int] = []
    for i in score.sort(descending=True, stable=True).indices.tolist():
        if not any(removes[k, i] for k in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64, device=score.device)


def check_suppression() -> None:
    """The same indices as one box after another; counts around a word of bits, ties, groups, NaN, nothing."""
    for count in (0, 1, 70):
        score = (torch.rand(count, device=DEVICE) * 8).round() / 8
        group = torch.randint(0, 2, (count,), device=DEVICE)
        upright, turned = _boxes(count, False), _boxes(count, True)
        plain = rotated_iou._intersection(turned[:, None], turned[None]).nan_to_num()
        overlap = rotated_iou.box_iou_rotated(turned, turned)
        _close("rotated areas", rotated_iou.rotated_intersection(turned, turned), plain)
        for groups in (None, group):
            kept = nms.nms(upright, score, 0.3, groups)
            assert torch.equal(kept, _plain_kept(nms.box_iou(upright, upright), score, groups, 0.3))
            kept = rotated_iou.nms_rotated(turned, score, 0.3, groups)
            assert torch.equal(kept, _plain_kept(overlap, score, groups, 0.3))


def _same_candidates(name: str, ours: candidates.Candidates, plain: Sequence[Tensor]) -> None:
    boxes, score, label, valid = plain
    assert torch.equal(ours.label, label) and torch.equal(ours.valid, valid), name
    _close(f"scores of {name}", ours.score, score)
    turn = torch.remainder(ours.boxes[..., 6] - boxes[..., 6] + math.pi, 2 * math.pi) - math.pi
    _close(f"yaw of {name}", turn, torch.zeros_like(turn) + turn * 0)
    columns = [0, 1, 2, 3, 4, 5, 7, 8]
    _close(f"boxes of {name}", ours.boxes[..., columns], boxes[..., columns])


def check_candidates() -> None:
    """Ties by place, NaN first or never, several rounds of ranking, fewer scores than asked for, both conventions."""
    ranking.BLOCK = 32
    limits = [-5.0, -5.0, -5.0, 5.0, 5.0, 5.0]
    for width, legacy, queries, classes, count, dtype in (
        (10, False, 40, 4, 8, torch.float32),
        (8, True, 7, 3, 30, torch.float16),
    ):
        logits = ((torch.randn(2, queries, classes, device=DEVICE) * 8).round() / 4).to(dtype)
        logits[1, 3, 2] = torch.nan
        codes = torch.randn(2, queries, width, device=DEVICE)
        plain = candidates._query_reference(logits, codes, count, limits, 0.3, legacy)
        ours = candidates.query_candidates(logits, codes, count, limits, 0.3, legacy)
        _same_candidates("queries", ours, plain)
    for peaks, legacy, count, inside in ((True, False, 8, limits), (False, True, 5, [])):
        heat = (torch.randn(2, 2, 9, 5, device=DEVICE) * 8).round() / 4
        heat[0, 1, 3, 3] = torch.nan if peaks else 0.0
        full = torch.randn(2, 12, 9, 5, device=DEVICE)
        maps = [full[:, :2], full[:, 2:3], full[:, 3:6] * 3, full[:, 7:9], full[:, 9:11]]
        numbers: list[Any] = [-3.0, -4.0, 0.5, 0.8, 5.0, *inside]
        plain = candidates._center_reference(heat, maps, count, numbers, 0.2, peaks, legacy)
        grid = (numbers[0], numbers[1]), (numbers[2], numbers[3])
        ours = candidates.center_candidates(heat, maps, count, *grid, inside, 0.2, peaks, legacy=legacy)
        _same_candidates("cells", ours, plain)
    empty = candidates.query_candidates(logits[:, :0], codes[:, :0], 5, limits)
    assert empty.boxes.shape == (2, 0, 9) and empty.valid.dtype == torch.bool


def _by_plugin(name: str, tensors: Sequence[Tensor], attributes: dict[str, int]) -> Tensor:
    """What TensorRT would compute: the plugin's kernel, launched with the numbers that its definition gives."""
    spec = PLUGINS[name]
    shape = spec.output_shape([tuple(x.shape) for x in tensors], attributes)
    out = torch.full(shape, torch.nan, device=DEVICE, dtype=tensors[spec.like].dtype)
    run(spec, [x.contiguous() for x in tensors], attributes, out)
    return out


def check_plugins() -> None:
    """Every plugin's launch against the torch form of its operator."""
    value, near, offsets, logits = _attention_inputs(torch.float32, [(3, 4), (1, 2)], (1, 1, 2), (2, 4, 9, 1))
    levels = torch.tensor([[3, 4, 0], [1, 2, 12]], dtype=torch.int32, device=DEVICE)
    ours = _by_plugin("deformable_attention", (value, levels, near, offsets, logits), {})
    plain = _plain_attention([(3, 4), (1, 2)])
    _close("attention plugin", ours, plain(*(x.double() for x in (value, near, offsets, logits))))
    cell = torch.randint(0, 5, (6, 3), device=DEVICE)
    plan = pooling.plan_pool(cell, torch.rand(6, 3, device=DEVICE) < 0.8, 5)
    depth, rows = torch.rand(12, 3, device=DEVICE), torch.randn(12, 7, device=DEVICE)
    ours = _by_plugin("bev_pool", (depth, rows, plan.order.int(), plan.offsets.int()), {"rows": 6})
    parts = [pooling._bev_pool_reference(d, r, plan) for d, r in zip(depth.split(6), rows.split(6))]
    _close("pooling plugin", ours, torch.cat(parts))
    *features, points_m, weights = _sampling_inputs(torch.float32, 2, 1, 6, False)
    tensors = (*features, points_m, _matrices(), weights)
    ours = _by_plugin("camera_sampling_2", tensors, {"image_height": 40, "image_width": 64})
    exact = (x.double() for x in (*features, points_m, weights))
    _close("sampling plugin", ours, _plain_projected(_matrices(), (40, 64))(*exact))
    _check_deform_conv()


def _check_deform_conv() -> None:
    geometry = {"stride_y": 2, "stride_x": 1, "padding_y": 1, "padding_x": 1, "dilation_y": 1, "dilation_x": 2}
    maps, weight = torch.randn(1, 4, 5, 7, device=DEVICE), torch.randn(3, 4, 3, 2, device=DEVICE)
    offset, mask = torch.randn(1, 24, 3, 7, device=DEVICE) * 2, torch.rand(1, 12, 3, 7, device=DEVICE)
    for dtype in (torch.float32, torch.float16):
        given = [x.to(dtype) for x in (maps, offset, mask, weight)]
        exact = [x.double() for x in given]
        plain = deform_conv2d(*exact, None, (2, 1), (1, 1), (1, 2))
        _close("convolution plugin", _by_plugin("modulated_deform_conv", given, geometry), plain, dtype)
    plain = deform_conv2d(exact[0], exact[1], None, exact[3], None, (2, 1), (1, 1), (1, 2))
    _close("plugin of version 1", _by_plugin("deform_conv", [*given[:2], given[3]], geometry), plain, dtype)


CHECKS = (
    check_attention,
    check_modules,
    check_sampling,
    check_pool,
    check_suppression,
    check_candidates,
    check_plugins,
)

if __name__ == "__main__":
    torch.manual_seed(0)
    for check in CHECKS:
        start = time.process_time()
        check()
        print(f"{check.__name__}: {time.process_time() - start:.1f} s", file=sys.stderr)
    print("equal")
