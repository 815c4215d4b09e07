"""Suppression against plain loops: groups, ties, thresholds, soft scores, many boxes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bev.ops import nms as module
from bev.ops.box_iou import box_iou
from bev.ops.nms import nms, nms_match, soft_nms


def _boxes(count: int, seed: int, extent: float = 30.0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=g) * extent
    boxes = torch.cat([corner, corner + 2 + 8 * torch.rand(count, 2, generator=g)], 1)
    score = torch.randint(0, 50, (count,), generator=g) / 50  # many ties
    return boxes, score, torch.randint(0, 3, (count,), generator=g)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 40), st.integers(0, 10_000), st.booleans(), st.sampled_from([0, 1]))
def test_equals_plain_loop(count: int, seed: int, grouped: bool, offset: int) -> None:
    boxes, score, label = _boxes(count, seed)
    group = label if grouped else None
    expected = module._nms_reference(boxes, score, group, 0.4, offset)
    assert nms(boxes, score, 0.4, group, offset).tolist() == expected.tolist()


def test_more_boxes_than_a_block() -> None:
    boxes, score, label = _boxes(700, seed=1, extent=120.0)
    expected = module._nms_reference(boxes, score, label, 0.3)
    assert 256 < len(expected) < 700
    assert nms(boxes, score, 0.3, label).tolist() == expected.tolist()


def test_score_threshold_and_max_num() -> None:
    boxes, score, _ = _boxes(60, seed=2)
    every = nms(boxes, score, 0.5).tolist()
    assert nms(boxes, score, 0.5, score_threshold=0.3).tolist() == [i for i in every if score[i] > 0.3]
    assert nms(boxes, score, 0.5, max_num=4).tolist() == every[:4]


def test_half_precision_and_strides() -> None:
    boxes, score, label = _boxes(50, seed=3)
    expected = nms(boxes.half().float(), score.half().float(), 0.5, label)
    wide = torch.stack([boxes.half()] * 2, -1)[..., 0]
    assert torch.equal(nms(wide, score.half(), 0.5, label), expected)


@pytest.mark.parametrize("operator", [nms, soft_nms, nms_match])
def test_no_boxes(operator) -> None:
    result = operator(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert len(result[0] if isinstance(result, tuple) else result) == 0


def test_opcheck() -> None:
    boxes, score, label = _boxes(9, seed=4)
    torch.library.opcheck(torch.ops.bev.nms.default, (boxes, score, label, 0.5, 0))
    torch.library.opcheck(torch.ops.bev.soft_nms.default, (boxes, score, None, 0.5, 0.5, 1e-3, "linear", 0))


def _plain_soft(boxes: Tensor, score: Tensor, method: str, label: Tensor | None) -> tuple[list[int], list[float]]:
    score, left, taken, scores = score.clone(), list(range(len(score))), [], []
    iou = box_iou(boxes, boxes)
    while left:
        best = max(left, key=lambda i: (float(score[i]), -i))
        left.remove(best)
        taken.append(best)
        scores.append(float(score[best]))
        for i in left:
            if label is None or label[i] == label[best]:
                overlap = iou[best, i]
                hard = {"naive": 0.0, "linear": 1 - overlap}.get(method, 0.0) if overlap >= 0.3 else 1.0
                score[i] *= torch.exp(-overlap * overlap / 0.5) if method == "gaussian" else hard
        left = [i for i in left if score[i] >= 1e-3]
    return taken, scores


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_equals_plain_loop(method: str, grouped: bool) -> None:
    boxes, score, label = _boxes(40, seed=5)
    group = label if grouped else None
    kept, scores = soft_nms(boxes, score, method=method, group=group)
    expected, expected_scores = _plain_soft(boxes, score, method, group)
    assert kept.tolist() == expected
    torch.testing.assert_close(scores, torch.tensor(expected_scores))


def test_match_tells_who_removed_whom() -> None:
    boxes, score, _ = _boxes(40, seed=6)
    groups = nms_match(boxes, score, 0.4)
    assert sorted(torch.cat(groups).tolist()) == list(range(40))
    assert [int(g[0]) for g in groups] == nms(boxes, score, 0.4).tolist()
    for group in groups:
        assert (box_iou(boxes[group[:1]], boxes[group[1:]]) >= 0.4).all()


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ValueError, match="expected boxes"):
        nms(torch.zeros(3, 5), torch.zeros(3), 0.5)
    with pytest.raises(ValueError, match="'hard'"):
        soft_nms(torch.zeros(3, 4), torch.zeros(3), method="hard")  # type: ignore[arg-type]


def test_overlap_of_flat_and_of_equal_boxes() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 1, 1], [0, 0, 2, 1]])
    torch.testing.assert_close(box_iou(boxes, boxes), torch.tensor([[1, 0, 0.5], [0, 0, 0], [0.5, 0, 1]]))
    torch.testing.assert_close(box_iou(boxes, boxes, "iof")[2], torch.tensor([1.0, 0, 1]))
    assert box_iou(boxes, boxes, aligned=True, offset=1).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="as many on both sides"):
        box_iou(boxes, boxes[:2], aligned=True)
