"""Focal loss and CARAFE against their plain forms: values, gradients, extremes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bev.ops import carafe as carafe_module
from bev.ops import focal_loss as module
from bev.ops.carafe import carafe
from bev.ops.focal_loss import sigmoid_focal_loss


def _inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(9, 4, generator=g, dtype=dtype) * 3, torch.tensor([0, 1, 2, 3, 4, 4, -1, 0, 3])


@pytest.mark.parametrize("gamma, alpha", [(2.0, 0.25), (1.5, 0.6), (0.0, 0.5)])
def test_equals_the_formula(gamma: float, alpha: float) -> None:
    logits, label = _inputs()
    logits.requires_grad_()
    arguments = logits, label, gamma, alpha
    ours, plain = sigmoid_focal_loss(*arguments), module._focal_loss_reference(*arguments)
    torch.testing.assert_close(ours, plain)
    weight = torch.rand_like(ours)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits, weight)[0] for x in (ours, plain)))
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, label, gamma, alpha), (logits,))


def test_extreme_logits_stay_finite_and_half_precision_rounds_once() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([0, 0]))
    torch.testing.assert_close(loss, torch.tensor([[0.0, 0.0], [50.0, 150.0]]))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0], [-0.25, 0.75]]))
    half, label = _inputs(torch.bfloat16)
    result, exact = sigmoid_focal_loss(half, label), module._focal_loss_reference(half.double(), label, 2.0, 0.25)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.double(), exact, rtol=2**-8, atol=1e-6)


def test_opcheck_empty_and_shapes() -> None:
    logits, label = _inputs(torch.float32)
    torch.library.opcheck(torch.ops.bev.sigmoid_focal_loss.default, (logits.requires_grad_(), label, 2.0, 0.25))
    assert sigmoid_focal_loss(logits[:0], label[:0]).shape == (0, 4)
    assert sigmoid_focal_loss(logits[:, :0], label).shape == (9, 0)
    with pytest.raises(ValueError, match="expected logits"):
        sigmoid_focal_loss(logits, label[:3])


@pytest.mark.parametrize("groups", [1, 2])
def test_carafe_equals_shifted_sums(groups: int) -> None:
    g = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 4, 3, 5, generator=g, dtype=torch.float64, requires_grad=True)
    masks = torch.randn(2, groups * 9, 6, 10, generator=g, dtype=torch.float64, requires_grad=True)
    result, plain = carafe(maps, masks, 3, 2), carafe_module._carafe_reference(maps, masks, 3, 2)
    torch.testing.assert_close(result, plain)
    weight = torch.randn_like(plain)
    ours, other = (torch.autograd.grad(x, (maps, masks), weight) for x in (result, plain))
    for a, b in zip(ours, other):
        torch.testing.assert_close(a, b)
    small = maps[:1, :, :2, :2].detach().requires_grad_(), masks[:1, :, :4, :4].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, m: carafe(x, m, 3, 2), small)


def test_carafe_names_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="kernel 4 \\(odd\\)"):
        carafe(torch.zeros(1, 4, 2, 2), torch.zeros(1, 16, 4, 4), 4, 2)
    with pytest.raises(ValueError, match="need masks \\(B, G \\* 9, 4, 4\\)"):
        carafe(torch.zeros(1, 4, 2, 2), torch.zeros(1, 9, 4, 5), 3, 2)
