"""2D losses against mmdet 3.3 (golden item mm_blocks, files losses_*; tolerances from its README)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bev.models import losses
from bev.models.losses.cross_entropy import one_hot_rows
from bev.models.losses.gaussian_focal import gaussian_focal_loss
from tests.parity.golden import Golden
from tests.paths import golden_cases

LOSSES = pytest.mark.parametrize("path", golden_cases("mm_blocks", "losses_*"), ids=lambda p: p.stem)
_CLOSE = dict(atol=3e-5, rtol=1e-5)

_KINDS: dict[str, Callable[..., nn.Module]] = {
    "focal": losses.FocalLoss,
    "focal_g1.5": losses.FocalLoss,
    "l1": losses.L1Loss,
    "mse": losses.MSELoss,
    "smooth_l1": losses.SmoothL1Loss,
    "smooth_l1_b0.11": losses.SmoothL1Loss,
    "balanced_l1": losses.BalancedL1Loss,
    "IoULoss": losses.IoULoss,
    "IoULoss_linear": lambda **options: losses.IoULoss(mode="linear", **options),
    "GIoULoss": losses.GIoULoss,
    "DIoULoss": losses.DIoULoss,
    "CIoULoss": losses.CIoULoss,
    "EIoULoss": losses.ExtendedIoULoss,
    "SIoULoss": losses.SIoULoss,
    "BoundedIoULoss": losses.BoundedIoULoss,
    "ce_softmax": losses.CrossEntropyLoss,
    "ce_sigmoid": losses.BinaryCrossEntropyLoss,
    "qfl": losses.QualityFocalLoss,
    "varifocal": losses.VarifocalLoss,
    "varifocal_noiou": lambda **options: losses.VarifocalLoss(iou_weighted=False, **options),
    "dfl": losses.DistributionFocalLoss,
}
# Elements of (M, C) where the files keep the rows' sums.
_ROWS = ("qfl",)
_PER_COORDINATE = ("l1", "mse", "smooth_l1", "smooth_l1_b0.11", "balanced_l1", "BoundedIoULoss")


def _arguments(golden: Golden, name: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Prediction (a leaf), target and weight of a loss."""
    weight, label, logits = golden["in.loss.weight"], golden["in.loss.target"], golden["in.loss.logits"]
    classes = logits.shape[1]
    if name == "dfl":
        return golden["in.loss.dfl_logits"], golden["in.loss.dfl_target"], weight
    if name.startswith("varifocal"):
        return logits, golden["in.loss.vfl_target"], None
    if name.startswith("focal"):
        return logits, label, weight
    if name == "ce_softmax":
        return logits, label.clamp(max=classes - 1), weight
    if name in ("ce_sigmoid", "qfl"):
        target = one_hot_rows(label, classes, torch.float32)
        return logits, target * golden["in.loss.quality"][:, None] if name == "qfl" else target, weight
    rows = torch.arange(len(weight)) != 3 if name == "CIoULoss" else slice(None)  # row 3: identical boxes, NaN there
    weight = weight[:, None].expand(-1, 4) if name in _PER_COORDINATE else weight[rows]
    return golden["in.loss.pred_boxes"][rows], golden["in.loss.gt_boxes"][rows], weight


@LOSSES
@pytest.mark.parametrize("name", list(_KINDS))
def test_loss(path: Path, name: str) -> None:
    golden = Golden(path)
    config = {k: v for k, v in golden.config[f"loss.{name}"].items() if k != "rows"}
    prediction, target, weight = _arguments(golden, name)
    prediction = prediction.clone().requires_grad_()
    expected = golden.group(f"out.loss.{name}")
    for reduction in ("none", "mean", "sum"):
        result = _KINDS[name](reduction=reduction, **config)(prediction, target, weight)
        if name in _ROWS:
            # The files reduce over rows, of which each is the sum of its classes.
            result = result.sum(1) if reduction == "none" else result * (target.shape[1] if reduction == "mean" else 1)
        torch.testing.assert_close(result, expected[reduction], **_CLOSE)
    average = _KINDS[name](**config)(prediction, target, weight, avg_factor=7.5)
    torch.testing.assert_close(average, expected["avg"], **_CLOSE)
    average.backward()
    gradient = golden[f"grad.loss.{name}"]
    if len(gradient) != len(prediction):  # CIoU's, without the row of identical boxes
        gradient = gradient[torch.arange(len(gradient)) != 3]
    torch.testing.assert_close(prediction.grad, gradient, **_CLOSE)


@LOSSES
def test_identical_boxes_cost_nothing(path: Path) -> None:
    """Where the published CIoU divides 0 by 0."""
    golden = Golden(path)
    boxes = golden["in.loss.pred_boxes"][3:4].clone().requires_grad_()
    loss = losses.CIoULoss()(boxes, golden["in.loss.gt_boxes"][3:4])
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and bool(boxes.grad.isfinite().all())


@LOSSES
def test_gaussian_focal(path: Path) -> None:
    golden = Golden(path)
    heatmap = golden["in.loss.hm_pred"].requires_grad_()
    loss = gaussian_focal_loss(heatmap.logit(), golden["in.loss.hm_target"])
    torch.testing.assert_close(loss, golden["out.loss.gaussian_focal.sum"], **_CLOSE)
    (loss / 7.5).backward()
    torch.testing.assert_close(heatmap.grad, golden["grad.loss.gaussian_focal"], **_CLOSE)
