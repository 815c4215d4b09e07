"""Region pooling against plain loops over samples and cells; gradients, layouts, edges, export."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from bev.ops import roi_align as module
from bev.ops.roi_align import roi_align, roi_align_rotated
from bev.ops.roi_pool import roi_pool


def _maps(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(seed), dtype=dtype)


ROIS = torch.tensor(
    [[0, 4.0, 4, 20, 24], [1, -9, -7, 50, 40], [1, 10, 3, 12, 4], [0, 70, 70, 90, 99], [0, 9, 8, 9, 8]],
    dtype=torch.float64,
)
TURNED = torch.tensor([[0, 14.0, 14, 20, 10, 0.4], [1, 5, 30, 40, 8, -2.0], [1, 16, 12, 3, 3, math.pi]]).double()


def _bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    """(C, H, W) at one point: the border reaches one cell out, zeros beyond."""
    height, width = plane.shape[-2:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return plane.new_zeros(plane.shape[0])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    top = plane[:, y0, x0] * (1 - (x - x0)) + plane[:, y0, x1] * (x - x0)
    bottom = plane[:, y1, x0] * (1 - (x - x0)) + plane[:, y1, x1] * (x - x0)
    return top * (1 - (y - y0)) + bottom * (y - y0)


def _plain(maps: Tensor, roi: list[float], bins: tuple[int, int], ratio: int, mode: str, aligned: bool) -> Tensor:
    """One region x, y, w, h, angle in cells of the map's plane."""
    x, y, w, h, angle = roi
    if not aligned:
        w, h = max(w, 1.0), max(h, 1.0)
    down, across = (ratio or math.ceil(h / bins[0])), (ratio or math.ceil(w / bins[1]))
    out = maps.new_zeros(maps.shape[0], *bins)
    for i in range(bins[0]):
        for j in range(bins[1]):
            samples = []
            for k in range(down):
                for m in range(across):
                    v = -h / 2 + (i + (k + 0.5) / down) * h / bins[0]
                    u = -w / 2 + (j + (m + 0.5) / across) * w / bins[1]
                    c, s = math.cos(angle), math.sin(angle)
                    samples.append(_bilinear(maps, y + u * s + v * c, x + u * c - v * s))
            if samples:
                stack = torch.stack(samples)
                out[:, i, j] = stack.mean(0) if mode == "avg" else stack.max(0).values
    return out


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_upright_and_turned_equal_plain_loops(ratio: int, mode: str, aligned: bool) -> None:
    maps, scale, bins = _maps(), 0.25, (3, 2)
    options = {"spatial_scale": scale, "sampling_ratio": ratio, "pool_mode": mode, "aligned": aligned}
    expected = []
    for number, x1, y1, x2, y2 in ROIS.tolist():
        w, h, shift = (x2 - x1) * scale, (y2 - y1) * scale, 0.5 * aligned
        w, h = (w, h) if aligned else (max(w, 1), max(h, 1))
        roi = [x1 * scale - shift + w / 2, y1 * scale - shift + h / 2, w, h, 0.0]
        expected.append(_plain(maps[int(number)], roi, bins, ratio, mode, aligned))
    torch.testing.assert_close(roi_align(maps, ROIS, bins, **options), torch.stack(expected))
    for sign, clockwise in ((1, True), (-1, False)):
        expected = []
        for number, x, y, w, h, angle in TURNED.tolist():
            shift = 0.5 * aligned
            roi = [x * scale - shift, y * scale - shift, w * scale, h * scale, sign * angle]
            expected.append(_plain(maps[int(number)], roi, bins, ratio, mode, aligned))
        result = roi_align_rotated(maps, TURNED, bins, clockwise=clockwise, **options)
        torch.testing.assert_close(result, torch.stack(expected))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("ratio", [0, 2])
def test_gradient_equals_the_reference(ratio: int, channels_last: bool) -> None:
    maps = _maps().to(memory_format=torch.channels_last if channels_last else torch.contiguous_format).requires_grad_()
    result = roi_align(maps, ROIS, (3, 2), 0.25, ratio)
    low, high = ROIS[:, 1:3] / 4 - 0.5, ROIS[:, 3:] / 4 - 0.5
    turn = torch.tensor([[1.0, 0.0]]).double().expand(len(ROIS), 2)
    frames = torch.cat([(low + high) / 2, high - low, turn], 1)
    expected = module._pool_reference(maps, ROIS[:, 0].long(), frames, 3, 2, ratio)
    torch.testing.assert_close(result, expected)
    weight = torch.randn_like(result)
    ours, plain = (torch.autograd.grad(x, maps, weight)[0] for x in (result, expected))
    torch.testing.assert_close(ours, plain)


def test_gradcheck() -> None:
    maps = _maps()[:, :1, :4, :4].requires_grad_()
    for operator in (partial(roi_align, rois_px=ROIS), partial(roi_align_rotated, rois_px=TURNED)):
        assert torch.autograd.gradcheck(lambda x, f=operator: f(x, output_size=2, spatial_scale=0.2), (maps,))
    assert torch.autograd.gradcheck(lambda x: roi_pool(x, ROIS, 2, 0.2), (maps,))


def test_opcheck() -> None:
    maps, picture = _maps(torch.float32).requires_grad_(), ROIS[:, 0].long()
    frames = torch.tensor([[3.0, 3, 4, 2, 0.6, 0.8]]).expand(len(ROIS), 6).contiguous()
    torch.library.opcheck(torch.ops.bev.roi_align.default, (maps, picture, frames, 3, 2, 2))
    torch.library.opcheck(torch.ops.bev.roi_pool.default, (maps, ROIS.float(), 3, 2, 0.25))


@pytest.mark.parametrize("operator", [roi_align, roi_pool])
def test_no_regions_half_precision_and_bad_pictures(operator) -> None:
    maps = _maps(torch.bfloat16)
    assert operator(maps, torch.zeros(0, 5), 2).shape == (0, 3, 2, 2)
    result, exact = operator(maps, ROIS.float(), 2, 0.25), operator(maps.double(), ROIS, 2, 0.25)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.double(), exact, rtol=2**-8, atol=1e-5)
    with pytest.raises(ValueError, match="not one of the 2"):
        operator(maps, torch.tensor([[2.0, 0, 0, 4, 4]]), 2)
    with pytest.raises(ValueError, match="\\(M, 5\\)"):
        operator(maps, torch.zeros(1, 4), 2)


def test_roi_pool_equals_plain_loop() -> None:
    maps, scale, bins = _maps().requires_grad_(), 0.25, (3, 2)
    expected = []
    for number, *corners in ROIS.tolist():
        x1, y1, x2, y2 = corners[0] * scale, corners[1] * scale, (corners[2] + 1) * scale, (corners[3] + 1) * scale
        out = maps.new_zeros(3, *bins)
        for i in range(bins[0]):
            for j in range(bins[1]):
                top, bottom = (f(y1 + (i + k) * (y2 - y1) / 3) for f, k in ((math.floor, 0), (math.ceil, 1)))
                left, right = (f(x1 + (j + k) * (x2 - x1) / 2) for f, k in ((math.floor, 0), (math.ceil, 1)))
                cut = maps[int(number), :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
                if cut.numel():
                    out[:, i, j] = cut.amax((1, 2))
        expected.append(out)
    result = roi_pool(maps, ROIS, bins, scale)
    torch.testing.assert_close(result, torch.stack(expected))
    weight = torch.randn_like(result)
    ours, plain = (torch.autograd.grad(x, maps, weight)[0] for x in (result, torch.stack(expected)))
    torch.testing.assert_close(ours, plain)


def test_export_gathers() -> None:
    class Pool(torch.nn.Module):
        def forward(self, maps: Tensor, rois: Tensor) -> Tensor:
            return roi_align(maps, rois, 3, 0.25, 2)

    inputs = _maps(torch.float32), ROIS.float()
    program = torch.export.export(Pool(), inputs)
    assert not any("bev." in str(node.target) or "embedding" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(*inputs), Pool()(*inputs))
