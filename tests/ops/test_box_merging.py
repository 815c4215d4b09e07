"""DIoU suppression, weighted box fusion and merging by hand and by their properties."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.models.heads.dense import DenseDecoder
from bev.ops.box_fusion import weighted_box_fusion
from bev.ops.box_merging import merge_boxes
from bev.ops.diou_nms import diou_nms, pairwise_diou
from bev.ops.nms import nms
from bev.structures import Boxes2D


def _random(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 40
    boxes = torch.cat([low, low + 5 + 20 * torch.rand(count, 2, generator=generator)], 1)
    return boxes, torch.rand(count, generator=generator), torch.randint(0, 2, (count,), generator=generator)


def test_distance_iou_by_hand() -> None:
    """2x2 boxes one apart in x: IoU 1/3, centres 1 apart, hull 3x2."""
    first, second = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]])
    assert pairwise_diou(first, second).item() == pytest.approx(1 / 3 - 1 / 13)
    boxes, score = torch.cat([first, second]), torch.tensor([0.4, 0.9])
    assert diou_nms(boxes, score, 0.3).tolist() == [1, 0] and nms(boxes, score, 0.3).tolist() == [1]
    assert diou_nms(boxes, score, 0.2).tolist() == [1]
    assert diou_nms(boxes[:0], score[:0], 0.2).tolist() == []


def test_distance_suppression_is_registered() -> None:
    boxes, score, group = _random(0, 6)
    for label in (None, group):
        torch.library.opcheck(torch.ops.bev.diou_nms.default, (boxes, score, label, 0.4))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 30))
def test_distance_suppression_is_the_plain_loop(seed: int, count: int) -> None:
    boxes, score, group = _random(seed, count)
    kept: list[int] = []
    for i in score.argsort(descending=True, stable=True).tolist():
        if all(group[k] != group[i] or pairwise_diou(boxes[k][None], boxes[i][None]).item() <= 0.4 for k in kept):
            kept.append(i)
    assert diou_nms(boxes, score, 0.4, group).tolist() == kept


def test_fusion_by_hand() -> None:
    """Two views agree on one object (weights .9 and .3), one view alone sees another, of half its score then."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    fused, score, cluster = weighted_box_fusion(boxes, torch.tensor([0.9, 0.3, 0.8]), 0.55, sources=2)
    torch.testing.assert_close(fused, torch.tensor([[0.25, 0.0, 10.25, 10.0], [50.0, 50.0, 60.0, 60.0]]))
    torch.testing.assert_close(score, torch.tensor([0.6, 0.4]))
    assert cluster.tolist() == [0, 0, 1]
    apart = weighted_box_fusion(boxes, torch.tensor([0.9, 0.3, 0.8]), 0.55, group=torch.tensor([0, 1, 0]))
    assert len(apart[0]) == 3
    none = weighted_box_fusion(boxes[:0], torch.zeros(0))
    assert none[0].shape == (0, 4) and none[2].shape == (0,)
    with pytest.raises(ValueError, match="sources"):
        weighted_box_fusion(boxes, torch.zeros(3), sources=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 30))
def test_fusion_stays_within_its_members(seed: int, count: int) -> None:
    boxes, score, group = _random(seed, count)
    fused, result, cluster = weighted_box_fusion(boxes, score, 0.5, group)
    assert bool((result[:-1] >= result[1:]).all()) and sorted(set(cluster.tolist())) == list(range(len(fused)))
    for index, box in enumerate(fused):
        members = boxes[cluster == index]
        assert bool((box >= members.amin(0) - 1e-4).all() and (box <= members.amax(0) + 1e-4).all())
        assert len(group[cluster == index].unique()) == 1
        assert result[index].item() == pytest.approx(score[cluster == index].mean().item(), abs=1e-5)


@pytest.mark.parametrize("how", ["nms", "soft_linear", "soft_gaussian", "diou", "fusion"])
def test_a_decoder_may_choose(how: str) -> None:
    boxes, score, label = _random(3, 25)
    decoder = DenseDecoder(0.01, 0.5, 10, suppression=how)  # type: ignore[arg-type]
    kept = decoder._suppress(Boxes2D(boxes, label, score))
    assert 0 < len(kept) <= 10 and bool((kept.score[:-1] >= kept.score[1:]).all())
    if how == "nms":
        assert torch.equal(kept.xyxy_px, boxes[nms(boxes, score, 0.5, label, max_num=10)])
    with pytest.raises(ValueError, match="suppression"):
        DenseDecoder(suppression="hard")  # type: ignore[arg-type]


def test_pieces_join_the_object_they_are_of() -> None:
    """The left half of a box, and a box beside it: the half joins, what only touches stays."""
    boxes = torch.tensor([[10.0, 0.0, 30.0, 10.0], [8.0, 0.0, 20.0, 10.0], [30.0, 0.0, 40.0, 10.0]])
    score = torch.tensor([0.9, 0.8, 0.7])
    joined, best, cluster = merge_boxes(boxes, score, 0.5)
    assert joined.tolist() == [[8.0, 0.0, 30.0, 10.0], [30.0, 0.0, 40.0, 10.0]]
    assert best.tolist() == pytest.approx([0.9, 0.7]) and cluster.tolist() == [0, 0, 1]
    assert nms(boxes, score, 0.5).tolist() == [0, 1, 2]  # the IoU of box and half is .45
    apart = merge_boxes(boxes, score, 0.5, torch.tensor([0, 1, 0]))
    assert len(apart[0]) == 3
    huge = torch.tensor([[10.0, 10.0, 20.0, 20.0], [0.0, 0.0, 90.0, 90.0], [11.0, 10.0, 20.0, 20.0]])
    weak, whole = torch.tensor([0.9, 0.1, 0.5]), torch.zeros(3, dtype=torch.bool)
    assert merge_boxes(huge, weak, 0.5)[0].tolist() == [[0.0, 0.0, 90.0, 90.0]]
    # Whole boxes: two are one object by their union, and the improbable large one is an object of its own.
    joined, best, cluster = merge_boxes(huge, weak, 0.5, cut=whole)
    assert joined.tolist() == huge[:2].tolist() and cluster.tolist() == [0, 1, 0]
    # Cut ones join by the smaller area, and grow by what is nearly as sure.
    pieces = torch.tensor([[0.0, 0.0, 50.0, 40.0], [30.0, 0.0, 60.0, 40.0], [0.0, 0.0, 99.0, 99.0]])
    joined, _, cluster = merge_boxes(pieces, torch.tensor([0.9, 0.8, 0.1]), 0.5, cut=torch.tensor([True, True, False]))
    assert joined.tolist() == [[0.0, 0.0, 60.0, 40.0]] and cluster.tolist() == [0, 0, 0]
    assert [len(part) for part in merge_boxes(boxes[:0], score[:0])] == [0, 0, 0]
    with pytest.raises(ValueError, match="merge_boxes"):
        merge_boxes(boxes, score[:2])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 30))
def test_merging_is_the_plain_loop(seed: int, count: int) -> None:
    boxes, score, group = _random(seed, count)
    joined, best, cluster = merge_boxes(boxes, score, 0.6, group)
    left, expected = score.argsort(descending=True, stable=True).tolist(), []
    while left:
        members = [i for i in left if i == left[0] or group[i] == group[left[0]] and _share(boxes, left[0], i) > 0.6]
        expected.append(members)
        left = [i for i in left if i not in members]
    found = [sorted((cluster == k).nonzero()[:, 0].tolist()) for k in range(len(joined))]
    assert found == [sorted(members) for members in expected]
    for k, members in enumerate(expected):
        hull = torch.cat([boxes[members, :2].amin(0), boxes[members, 2:].amax(0)])
        assert torch.equal(joined[k], hull) and best[k] == score[members[0]]


def _share(boxes: torch.Tensor, i: int, j: int) -> float:
    (a, b, c, d), (e, f, g, h) = boxes[i].tolist(), boxes[j].tolist()
    shared = max(0.0, min(c, g) - max(a, e)) * max(0.0, min(d, h) - max(b, f))
    return shared / min((c - a) * (d - b), (g - e) * (h - f))
