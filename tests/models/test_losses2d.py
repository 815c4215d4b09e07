"""Losses of dense heads against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from bev.models import losses
from bev.models.losses.hard_examples import hardest_regions

LN2 = math.log(2)


def test_rotated_iou() -> None:
    """A square of side 2 and the same turned by 45 degrees share an octagon of area 8 (sqrt 2 - 1)."""
    square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
    turned = torch.tensor([[0.0, 0.0, 2.0, 2.0, math.pi / 4]])
    shared = 8 * (math.sqrt(2) - 1)
    iou = shared / (8 - shared)
    for mode, expected in (("linear", 1 - iou), ("log", -math.log(iou)), ("square", 1 - iou**2)):
        assert losses.RotatedIoULoss(mode)(turned, square).item() == pytest.approx(expected, rel=1e-5)
    # Moved by one along x without a turn: IoU 1/3, whose slope is -(1 * 2 (8 - 2 s) ...): against finite differences.
    moved = torch.tensor([[1.0, 0.1, 2.0, 2.2, 0.3]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(losses.RotatedIoULoss(), (moved, square.double()))
    far = losses.RotatedIoULoss()(square + torch.tensor([9.0, 0, 0, 0, 0]), square)
    assert far.item() == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="mode 'exp'"):
        losses.RotatedIoULoss("exp")


def test_dice() -> None:
    """p = (1, 1/2, 0), t = (1, 1, 0): 1 - 2 * 1.5 / (1.25 + 2); without squares 1 - 3 / 3.5."""
    probability, target = torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    squared = losses.DiceLoss(activated=True, eps=0.0)(probability, target)
    assert squared.item() == pytest.approx(1 - 3 / 3.25, rel=1e-6)
    plain = losses.DiceLoss(squared=False, activated=True, eps=0.0)(probability, target)
    assert plain.item() == pytest.approx(1 - 3 / 3.5, rel=1e-6)
    logits = torch.tensor([[0.0, 0.0]])
    assert losses.DiceLoss(eps=0.0)(logits, torch.ones(1, 2)).item() == pytest.approx(1 - 2 / 2.5, rel=1e-6)
    nothing = losses.DiceLoss()(torch.full((1, 4), -40.0), torch.zeros(1, 4))
    assert nothing.item() == pytest.approx(0, abs=1e-6)


def test_equalization_spares_rare_classes_on_foreground() -> None:
    """Even odds cost ln 2 a column; the rare class 1 costs nothing where class 0 is right, and counts on background."""
    loss = losses.EqualizationLoss((0.5, 0.001, 0.3))
    logits, target = torch.zeros(3, 3), torch.tensor([0, 1, 3])
    expected = LN2 * torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    torch.testing.assert_close(loss.elements(logits, target), expected)
    assert loss(logits, target).item() == pytest.approx(8 * LN2 / 3, rel=1e-6)
    with pytest.raises(ValueError, match="3 frequencies for 2 classes"):
        loss(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="between 0 and 1"):
        losses.EqualizationLoss((3.0,))


def test_only_the_hardest_rows_teach() -> None:
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    target = torch.zeros(4, dtype=torch.int64)
    rows = losses.CrossEntropyLoss().elements(logits, target)
    mined = losses.OHEMLoss(losses.CrossEntropyLoss(), keep=0.5)
    value = mined(logits, target)
    assert value.item() == pytest.approx(((rows[1] + rows[2]) / 2).item(), rel=1e-6)
    value.backward()
    assert logits.grad is not None and (logits.grad.abs().sum(1) > 0).tolist() == [False, True, True, False]
    # A weight of zero takes a row out, however wrong it is; a whole number is a number of rows.
    weight = torch.tensor([1.0, 0.0, 1.0, 1.0])
    single = losses.OHEMLoss(losses.CrossEntropyLoss(), keep=1)(logits, target, weight)
    assert single.item() == pytest.approx(LN2, rel=1e-6)
    assert mined(logits, target, avg_factor=4.0).item() == pytest.approx(((rows[1] + rows[2]) / 4).item(), rel=1e-6)
    with pytest.raises(ValueError, match="not 1.5"):
        losses.OHEMLoss(losses.CrossEntropyLoss(), keep=1.5)


def test_regions_that_repeat_a_worse_one_are_left_out() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 10, 10], [20.0, 0, 30, 10], [40.0, 0, 50, 10]])
    hardest = hardest_regions(torch.tensor([2.0, 3.0, 1.0, 0.5]), boxes, count=2)
    assert hardest.tolist() == [1, 2]


def test_class_weights_and_smoothed_labels() -> None:
    logits, target = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    weighted = losses.BinaryCrossEntropyLoss(class_weight=(3.0, 0.5))
    torch.testing.assert_close(weighted.elements(logits, target), LN2 * torch.tensor([[3.0, 0.5]]))
    focal, label = losses.FocalLoss(class_weight=(2.0, 1.0)), torch.tensor([1])
    plain = losses.FocalLoss().elements(logits, label)
    torch.testing.assert_close(focal.elements(logits, label), plain * torch.tensor([[2.0, 1.0]]))
    classes = losses.CrossEntropyLoss(class_weight=[1.0, 4.0])
    assert classes(logits, label).item() == pytest.approx(4 * LN2, rel=1e-6)
    # Smoothing by 0.2: the target 1 becomes 0.9, at odds of e^2 to 1.
    certain = torch.tensor([[2.0]])
    p = 1 / (1 + math.exp(-2))
    expected = -0.9 * math.log(p) - 0.1 * math.log(1 - p)
    smooth = losses.BinaryCrossEntropyLoss(label_smoothing=0.2)(certain, torch.ones(1, 1))
    assert smooth.item() == pytest.approx(expected, rel=1e-6)
    # Softmax smoothing by 0.3 over three classes: 0.8, 0.1, 0.1.
    row = torch.tensor([[1.0, 0.0, 0.0]])
    logs = row.log_softmax(1)[0]
    found = losses.CrossEntropyLoss(label_smoothing=0.3)(row, torch.tensor([0])).item()
    assert found == pytest.approx(-(0.8 * logs[0] + 0.1 * logs[1] + 0.1 * logs[2]).item(), rel=1e-6)


def test_focal_family_by_hand() -> None:
    """p = 1/2: focal 0.25 * 0.25 ln 2; quality y = 3/4: (1/4)^2 BCE; varifocal: q BCE, alpha p^2 ln 2 for negatives."""
    zero, entropy = torch.zeros(1, 1), LN2
    assert losses.FocalLoss()(zero, torch.tensor([0])).item() == pytest.approx(0.25 * 0.25 * LN2, rel=1e-6)
    assert losses.FocalLoss()(zero, torch.tensor([1])).item() == pytest.approx(0.75 * 0.25 * LN2, rel=1e-6)
    quality = torch.tensor([[0.75]])
    assert losses.QualityFocalLoss()(zero, quality).item() == pytest.approx(entropy / 16, rel=1e-6)
    assert losses.VarifocalLoss()(zero, quality).item() == pytest.approx(0.75 * entropy, rel=1e-6)
    assert losses.VarifocalLoss()(zero, torch.zeros(1, 1)).item() == pytest.approx(0.75 * 0.25 * LN2, rel=1e-6)
    # Four even bins, the side at 1.25: both neighbours cost ln 4.
    even = losses.DistributionFocalLoss()(torch.zeros(1, 4), torch.tensor([1.25]))
    assert even.item() == pytest.approx(math.log(4), rel=1e-6)
    assert losses.SmoothL1Loss(beta=2.0)(torch.tensor([[1.0, 5.0]]), torch.zeros(1, 2)).item() == pytest.approx(
        (0.25 + 4.0) / 2, rel=1e-6
    )


def test_overlap_losses_by_hand() -> None:
    """2x2 and 2x2 one apart: IoU 1/7, hull 9; then 4x2 in 2x2's place: IoU 1/2, aspects 2 and 1."""
    first, second = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 1.0, 3.0, 3.0]])
    assert losses.IoULoss("linear")(first, second).item() == pytest.approx(6 / 7, rel=1e-5)
    assert losses.GIoULoss()(first, second).item() == pytest.approx(1 - (1 / 7 - 2 / 9), rel=1e-5)
    assert losses.DIoULoss()(first, second).item() == pytest.approx(1 - 1 / 7 + 2 / 18, rel=1e-5)
    target, wide = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[0.0, 0.0, 4.0, 3.0]])
    v = 4 / math.pi**2 * (math.atan(1) - math.atan(4 / 3)) ** 2
    expected = 1 - 0.75 + 0.25 / 32 + v * v / (1 - 0.75 + v)
    assert losses.CIoULoss()(wide, target).item() == pytest.approx(expected, rel=1e-4)
