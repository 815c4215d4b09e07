"""What compiled mmcv has no CPU kernel for: the functions of ``mmcv._ext`` against plain formulas and autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d.ext import functions


def test_sigmoid_focal_loss() -> None:
    from mmcv.ops import sigmoid_focal_loss

    logits = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    target, weight = torch.tensor([0, 1, 2, 3, 4, 4, 1]), torch.rand(4, dtype=torch.float64)
    one_hot = F.one_hot(target, 5)[:, :4].double()
    p = logits.sigmoid()
    chance = torch.where(one_hot > 0, p, 1 - p)
    factor = torch.where(one_hot > 0, 0.3, 0.7) * torch.cat([weight, weight.new_ones(1)])[target][:, None]
    expected = -factor * (1 - chance) ** 1.5 * chance.log()
    for reduction, reduce in (("none", lambda x: x), ("sum", torch.sum), ("mean", lambda x: x.sum() / 7)):
        ours = sigmoid_focal_loss(logits, target, 1.5, 0.3, weight, reduction)
        torch.testing.assert_close(ours, reduce(expected))
        mine, theirs = (torch.autograd.grad(x.sum(), logits, retain_graph=True)[0] for x in (ours, reduce(expected)))
        torch.testing.assert_close(mine, theirs)


def test_softmax_focal_loss() -> None:
    from mmcv.ops import softmax_focal_loss

    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    target, weight = torch.tensor([0, 1, 2, 3, 1, -1]), torch.rand(4, dtype=torch.float64)
    p = logits.softmax(1).gather(1, target.clamp(min=0)[:, None])[:, 0]
    expected = torch.where(target >= 0, -0.25 * (1 - p) ** 2 * p.log() * weight[target.clamp(min=0)], 0)
    torch.testing.assert_close(softmax_focal_loss(logits, target, 2.0, 0.25, weight, "none"), expected)
    ours = softmax_focal_loss(logits, target, 2.0, 0.25, weight, "sum")
    mine, theirs = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (ours, expected.sum()))
    torch.testing.assert_close(mine, theirs)


def _agrees(ours: Tensor, plain: Tensor, leaves: list[Tensor]) -> None:
    torch.testing.assert_close(ours, plain)
    grad = torch.randn_like(ours)
    gradients = (torch.autograd.grad(x, leaves, grad, retain_graph=True) for x in (ours, plain))
    for mine, theirs in zip(*gradients):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", ["carafe", "carafe_naive"])
def test_carafe(name: str) -> None:
    """The wrappers' backward passes insist on CUDA tensors, hence the functions under them."""
    from mmcv import ops

    from bev.ops.carafe import carafe as plain

    maps = torch.randn(2, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    masks = torch.rand(2, 2 * 9, 10, 8, dtype=torch.float64, requires_grad=True)
    expected = plain(maps, masks, 3, 2)
    torch.testing.assert_close(getattr(ops, name)(maps, masks, 3, 2, 2), expected)
    grad, x, m = torch.randn_like(expected), maps.detach(), masks.detach()
    by_maps, by_masks = torch.zeros_like(x), torch.zeros_like(m)
    if name == "carafe":
        kept, buffers = torch.zeros_like(x), [torch.zeros(0)] * 4
        functions()["carafe_forward"](x, m, kept, None, None, torch.zeros_like(grad), 3, 2, 2)
        functions()["carafe_backward"](grad, kept, m, *buffers, by_maps, by_masks, 3, 2, 2)
    else:
        functions()["carafe_naive_backward"](grad, x, m, by_maps, by_masks, 3, 2, 2)
    for mine, theirs in zip((by_maps, by_masks), torch.autograd.grad(expected, [maps, masks], grad)):
        torch.testing.assert_close(mine, theirs)


def test_roi_pool() -> None:
    from mmcv.ops import roi_pool

    from bev.ops.roi_pool import roi_pool as plain

    maps = torch.randn(2, 3, 12, 10, requires_grad=True)
    rois = torch.tensor([[0, 1.0, 2, 30, 35], [1, 4, 4, 20, 38], [1, 0, 0, 3, 3]])
    _agrees(roi_pool(maps, rois, (3, 2), 0.25), plain(maps, rois, (3, 2), 0.25), [maps])


@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_dynamic_scatter(reduction: str) -> None:
    from mmcv.ops import dynamic_scatter

    features = torch.randn(30, 4, requires_grad=True)
    cells = torch.randint(0, 3, (30, 3), dtype=torch.int32)
    cells[4] = -1
    ours, found = dynamic_scatter(features, cells, reduction)
    expected, place = cells[(cells >= 0).all(1)].unique(dim=0, return_inverse=True)
    assert torch.equal(found, expected)
    assert found.dtype == cells.dtype
    kept = features[(cells >= 0).all(1)]
    groups = [kept[place == number] for number in range(len(expected))]
    _agrees(ours, torch.stack([g.mean(0) if reduction == "mean" else g.amax(0) for g in groups]), [features])


def test_point_sets() -> None:
    from mmcv.ops import ball_query, gather_points, grouping_operation, three_interpolate, three_nn

    points, centers = torch.rand(2, 40, 3), torch.rand(2, 5, 3)
    features = torch.randn(2, 6, 40, requires_grad=True)
    index = ball_query(0.1, 0.5, 4, points, centers)
    distance = torch.cdist(centers, points)
    assert index.dtype == torch.int32
    for b in range(2):
        for q in range(5):
            near = ((distance[b, q] >= 0.1) & (distance[b, q] < 0.5)).nonzero()[:, 0][:4].tolist()
            assert index[b, q].tolist() == (near + near[:1] * 4)[:4] if near else [0] * 4
    rows = torch.arange(2)[:, None, None]
    plain = features.transpose(1, 2)[rows, index.long()].permute(0, 3, 1, 2)
    _agrees(grouping_operation(features, index), plain, [features])
    first = index[:, :, 0].contiguous()
    _agrees(gather_points(features, first), plain[..., 0], [features])
    length, nearest = three_nn(centers, points)
    torch.testing.assert_close(length, distance.topk(3, largest=False).values)
    weight = torch.rand(2, 5, 3)
    picked = features.transpose(1, 2)[rows, nearest.long()]
    plain = (picked * weight[..., None]).sum(2).transpose(1, 2)
    _agrees(three_interpolate(features, nearest, weight), plain, [features])


def test_nms_of_upright_3d_boxes() -> None:
    from mmcv.ops import boxes_iou3d, boxes_overlap_bev, nms3d, nms3d_normal

    rows = [[0, 0, 0, 4, 2, 2, 0.0], [0.5, 0, 0, 4, 2, 2, 0], [9, 0, 0, 4, 2, 2, 1.0], [0, 0, 0, 2, 4, 2, 1.57]]
    boxes = torch.tensor(rows)
    score = torch.tensor([0.5, 0.9, 0.3, 0.4])
    torch.testing.assert_close(boxes_overlap_bev(boxes[:1], boxes[:3]), torch.tensor([[8.0, 7.0, 0.0]]))
    torch.testing.assert_close(boxes_iou3d(boxes[:1], boxes[:2]), torch.tensor([[1.0, 14 / 18]]))
    assert nms3d(boxes, score, 0.5).tolist() == [1, 2]
    assert nms3d_normal(boxes, score, 0.5).tolist() == [1, 3, 2]
