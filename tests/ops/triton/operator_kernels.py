"""Operators of regions, losses and points through their Triton kernels, on CUDA or interpreted; run as a script.

Values and gradients are held to the plain forms in float64, indices to them in the same precision.
"""

from __future__ import annotations

import itertools
import math
import sys
import time

import torch
from torch import Tensor

from bev.ops import focal_loss, point_sets
from bev.ops import points_in_boxes as membership
from bev.ops import roi_align as regions
from bev.ops.carafe import _carafe_reference, carafe
from bev.ops.roi_pool import roi_pool
from bev.ops.triton import takes
from tests.ops.triton.fused_kernels import DEVICE, _compare

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def _random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, device=DEVICE).to(dtype)


ROIS = [[0, 4.1, 4, 20, 24], [1, -9, -7, 20, 16], [1, 10, 3, 12, 4], [0, 70, 70, 76, 74], [0, 9, 8, 9, 8]]
TURNED = [[0, 14.1, 14, 20, 10, 0.4], [1, 5, 30, 40, 8, -2.0], [1, 16, 12, 3, 3, 3.0]]


def check_roi_align() -> None:
    """Regions inside, beyond, without an extent and turned inside out; fixed and own numbers of samples; layouts."""
    upright, turned = torch.tensor(ROIS, device=DEVICE), torch.tensor(TURNED, device=DEVICE)
    upright[2, 1:] = upright[2, [3, 4, 1, 2]]
    for dtype, rois, ratio, channels, bins, aligned in (
        (torch.float32, upright, 0, 3, (3, 2), True),
        (torch.float32, turned, 1, 67, (5, 4), False),
        (torch.float16, upright, 1, 4, (2, 2), False),
        (torch.bfloat16, turned, 0, 4, (2, 2), True),
    ):
        maps = _random(2, channels, 7, 9, dtype=dtype)
        maps = maps.to(memory_format=torch.channels_last) if ratio else maps
        form = regions.roi_align if rois is upright else regions.roi_align_rotated
        ours = lambda x: form(x, rois, bins, 0.25, ratio, aligned=aligned)  # noqa: B023, E731
        plain = lambda x: _plain_regions(x, rois, bins, ratio, aligned)  # noqa: B023, E731
        _compare(f"{form.__name__} {ratio} {aligned}", dtype, [maps], ours, plain)
    unknown = torch.tensor([[2.0, 0, 0, 9, 9], [0, 0, 0, torch.inf, 9], [0, 0, 0, 9, 9]], device=DEVICE)
    result = regions.roi_align(maps.requires_grad_(), unknown, 2)
    assert result.isnan().flatten(1).all(1).tolist() == [True, True, False] and not result[2].isnan().any()
    assert not torch.autograd.grad(result[2].sum(), maps)[0].isnan().any()
    assert regions.roi_align(maps, unknown[:0], 2).shape == (0, 4, 2, 2)


def _plain_regions(maps: Tensor, rois: Tensor, bins: tuple[int, int], ratio: int, aligned: bool) -> Tensor:
    """The plain form, with the frames that float32 regions have."""
    frames: list[Tensor] = []
    pool, regions._pool = regions._pool, lambda *given: frames.append(given[2]) or maps[:0]
    try:
        form = regions.roi_align if rois.shape[1] == 5 else regions.roi_align_rotated
        form(maps.float(), rois, bins, 0.25, ratio, aligned=aligned)
    finally:
        regions._pool = pool
    return regions._pool_reference(maps, rois[:, 0].long(), frames[0].double(), *bins, ratio)


def check_focal_loss() -> None:
    """Several blocks, labels that are no class, logits far out and infinite, other exponents, no rows."""
    for dtype, rows, classes, gamma in ((DTYPES[0], 300, 7, 2.0), (DTYPES[0], 5, 1, 0.0), (DTYPES[1], 9, 3, 1.5),
                                        (DTYPES[2], 9, 3, 2.0)):  # fmt: skip
        logits, label = _random(rows, classes, dtype=dtype) * 5, torch.randint(-1, classes + 2, (rows,), device=DEVICE)
        logits[0], logits[1] = -40, 40
        ours = lambda x: focal_loss.sigmoid_focal_loss(x, label, gamma)  # noqa: B023, E731
        plain = lambda x: _plain_focal(x, label, gamma)  # noqa: B023, E731
        _compare("focal loss", dtype, [logits], ours, plain)
    far = torch.tensor([[torch.inf], [-torch.inf], [torch.nan], [0.0]], device=DEVICE)
    for gamma in (0.0, 2.0):
        none = focal_loss.sigmoid_focal_loss(far, torch.full((4,), -1, device=DEVICE), gamma)[:, 0].tolist()
        assert none[0] == float("inf") and none[1] == 0 and none[2] != none[2] and none[3] > 0
    assert focal_loss.sigmoid_focal_loss(far[:0], torch.zeros(0, device=DEVICE)).shape == (0, 1)


def _plain_focal(logits: Tensor, label: Tensor, gamma: float) -> Tensor:
    """The formula by logsigmoid, which the torch form of the operator does not use."""
    positive = label[:, None] == torch.arange(logits.shape[1], device=DEVICE)
    turned = torch.where(positive, logits, -logits)
    weight = torch.where(positive, 0.25, 0.75).to(logits.dtype)
    return -weight * (-turned).sigmoid() ** gamma * torch.nn.functional.logsigmoid(turned)


def check_point_sets() -> None:
    """Points on a lattice (ties), in double, fewer than a block and several blocks; other numbers of dimensions."""
    lattice = torch.randint(0, 4, (2, 150, 3), device=DEVICE).float()
    for points, count in ((lattice, 9), (_random(1, 1030, 3), 5), (_random(2, 40, 2), 40), (lattice[:, :1], 1)):
        expected = point_sets.furthest_point_sampling(points.double(), count)
        assert torch.equal(point_sets.furthest_point_sampling(points, count), expected)
    assert point_sets.furthest_point_sampling(lattice, 0).shape == (2, 0)
    centers = torch.cat([lattice[:, :17] + 0.25, lattice[:, :1] + 50], 1)
    for center, low, high, count in ((centers, 0.0, 1.0, 5), (lattice[:, 3:20], 1.0, 2.0, 33), (centers, 0.5, 0.6, 1)):
        expected = point_sets.ball_query(lattice.double(), center.double(), high, count, low)
        assert torch.equal(point_sets.ball_query(lattice, center, high, count, low), expected)
    assert not point_sets.ball_query(lattice[:, :0], centers, 1.0, 3).any()
    for target, source in ((centers + 0.01 * _random(2, 18, 3), _random(2, 150, 3)), (centers, lattice[:, :3])):
        distance, index = point_sets.three_nn(target, source)
        expected, _ = point_sets.three_nn(target.double(), source.double())
        torch.testing.assert_close(distance.double(), expected, rtol=1e-6, atol=1e-6)
        taken = source.gather(1, index.flatten(1)[..., None].expand(-1, -1, 3)).unflatten(1, index.shape[1:])
        torch.testing.assert_close((taken - target[:, :, None]).norm(dim=-1), distance)
        assert (index.sort(2).values.diff(dim=2) > 0).all()
    same = point_sets.three_nn(lattice[:, :2], lattice[:, :1].expand(-1, 70, -1))[1]
    assert torch.equal(same, torch.arange(3, device=DEVICE).expand(2, 2, 3))


def check_points_in_boxes() -> None:
    """Several tiles of points and boxes that overlap; top and sides exactly; points and boxes that are none."""
    points, boxes = _random(2, 140, 3) * 3, torch.rand(2, 19, 7, device=DEVICE) * 4
    boxes[..., :3] -= 2
    boxes[0, 0] = torch.tensor([0, 0, 0, 2, 2, 2, 0.0])
    points[0, :4] = torch.tensor([[0, 0, 1.0], [1, 0, 0], [torch.nan, 0, 0], [0, -0.5, -1]])
    inside = membership.points_in_boxes(points, boxes)
    assert torch.equal(inside, membership.points_in_boxes(points.double(), boxes.double()))
    assert inside[0, :4, 0].tolist() == [True, False, False, True]
    first = membership.box_of_points(points, boxes)
    assert torch.equal(first, membership.box_of_points(points.double(), boxes.double())) and (first > 0).any()
    assert membership.points_in_boxes(points[:, :0], boxes).shape == (2, 0, 19)
    assert (membership.box_of_points(points, boxes[:, :0]) == -1).all()


def check_carafe() -> None:
    """Groups of more channels than a block has, kernels wider than the map, more pixels than a block has."""
    for dtype, shape, groups, side, scale in (
        (torch.float32, (1, 36, 4, 5), 2, 3, 2),
        (torch.float32, (1, 1, 2, 3), 1, 5, 1),
        (torch.float16, (1, 2, 2, 2), 2, 1, 3),
        (torch.bfloat16, (1, 3, 3, 3), 1, 3, 1),
    ):
        masks = _random(shape[0], groups * side**2, shape[2] * scale, shape[3] * scale).to(dtype)
        ours = lambda x, m: carafe(x, m, side, scale)  # noqa: B023, E731
        plain = lambda x, m: _plain_carafe(x, m, groups, side, scale)  # noqa: B023, E731
        _compare(f"carafe {shape}", dtype, [_random(*shape, dtype=dtype), masks], ours, plain)
    assert carafe(_random(0, 2, 3, 3), _random(0, 9, 3, 3), 3, 1).shape == (0, 2, 3, 3)


def _plain_carafe(maps: Tensor, masks: Tensor, groups: int, side: int, scale: int) -> Tensor:
    """One group after another: the plain form tells groups apart by the channels that are left."""
    parts = zip(maps.chunk(groups, 1), masks.chunk(groups, 1))
    return torch.cat([_carafe_reference(x, m, side, scale) for x, m in parts], 1)


def check_roi_pool() -> None:
    """Bins of none, one and many cells, ties, several blocks of channels, unknown pictures."""
    rois = torch.tensor(ROIS, device=DEVICE)
    for dtype, channels in ((torch.float32, 130), (torch.float16, 3)):
        maps = _random(2, channels, 7, 9, dtype=dtype).mul(4).round().div(4)
        ours = lambda x: roi_pool(x, rois, (3, 2), 0.25)  # noqa: E731
        _compare("roi pool", dtype, [maps], ours, lambda x: _plain_pool(x, rois.tolist(), (3, 2), 0.25))
    maps[0, 1, 3, 3] = torch.nan
    unknown = torch.tensor([[0.0, 0, 0, 32, 32], [-1, 0, 0, 32, 32], [1, 0, 0, 32, 32]], device=DEVICE)
    result = roi_pool(maps, unknown, 1)
    assert result.isnan()[..., 0, 0].tolist() == [[False, True, False], [True] * 3, [False] * 3]


def _plain_pool(maps: Tensor, rois: list[list[float]], bins: tuple[int, int], scale: float) -> Tensor:
    """Cells by their definition; ``max`` of torch's flat cells gives its gradient to the first of equal ones."""
    parts = []
    for number, x1, y1, x2, y2 in rois:
        for i, j in itertools.product(range(bins[0]), range(bins[1])):
            edges = []
            for low, high, size, bin_, count in ((y1, y2, 7, i, bins[0]), (x1, x2, 9, j, bins[1])):
                step = (high + 1 - low) * scale / count
                ends = math.floor(low * scale + bin_ * step), math.ceil(low * scale + (bin_ + 1) * step)
                edges.append(slice(*(min(max(end, 0), size) for end in ends)))
            cut = maps[int(number), :, edges[0], edges[1]].flatten(1)
            parts.append(cut.max(1).values if cut.numel() and x2 >= x1 else cut.sum(1))
    return torch.stack(parts).view(len(rois), *bins, -1).permute(0, 3, 1, 2)


def check_registration() -> None:
    """Fake kernels and schemas of what has a kernel and no other registered form."""
    points, centers, boxes = _random(2, 9, 3), _random(2, 3, 4).transpose(1, 2)[:, :, :3], _random(2, 3, 7)
    maps, masks = _random(1, 2, 3, 3).requires_grad_(), _random(1, 9, 6, 6).requires_grad_()
    for operator, inputs in (
        (torch.ops.bev.ball_query.default, (points, centers, 0.0, 1.0, 4)),
        (torch.ops.bev.three_nn.default, (centers, points)),
        (torch.ops.bev.points_in_boxes.default, (points, boxes)),
        (torch.ops.bev.box_of_points.default, (points, boxes)),
        (torch.ops.bev.carafe.default, (maps, masks, 3, 2)),
    ):
        torch.library.opcheck(operator, inputs, test_utils=("test_schema", "test_faketensor"))
    torch.library.opcheck(torch.ops.bev.carafe.default, (maps, masks, 3, 2), test_utils="test_autograd_registration")


CHECKS = (
    check_registration,
    check_roi_align,
    check_focal_loss,
    check_point_sets,
    check_points_in_boxes,
    check_carafe,
    check_roi_pool,
)

if __name__ == "__main__":
    assert takes(DEVICE), "neither CUDA nor TRITON_INTERPRET=1"
    torch.manual_seed(0)
    for check in CHECKS:
        start = time.process_time()
        check()
        print(f"{check.__name__}: {time.process_time() - start:.1f} s", file=sys.stderr)
    print("equal")
