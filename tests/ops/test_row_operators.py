"""Layer norm, activations and softmax with what stands before them: registered forms, gradients, edges, errors.

Their Triton kernels are tested in ``tests/ops/triton``; here the operators' CPU bodies, which share all else.
"""

import pytest
import torch
from torch.library import opcheck

from bev.ops.bias_activation import _bias_activation, _bias_activation_reference, bias_gelu, bias_relu
from bev.ops.layer_norm import (
    _add_layer_norm,
    _add_layer_norm_reference,
    add_layer_norm,
    add_layer_norm_with_sum,
)
from bev.ops.masked_softmax import _masked_softmax, _masked_softmax_reference, masked_softmax


def _leaf(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(len(shape))).requires_grad_()


def _norm_inputs(dtype=torch.float64):
    """x, gamma, beta, bias, residual; x and residual are not contiguous."""
    return _leaf(5, 2, 3, dtype=dtype).transpose(1, 2), *(_leaf(2, dtype=dtype) for _ in range(3)), _leaf(
        5, 2, 3, dtype=dtype
    ).transpose(1, 2)


def _registered_norm(x, gamma, beta, bias, residual, keep=True):
    return _add_layer_norm(x, residual, bias, gamma, beta, 1e-5, keep)


@pytest.mark.parametrize("keep", [True, False])
def test_registered_layer_norm_equals_plain(keep):
    inputs = _norm_inputs()
    ours, plain = _registered_norm(*inputs, keep), _add_layer_norm_reference(*inputs, 1e-5)
    torch.testing.assert_close(ours[0], plain[0])
    leaves = inputs[1:4]
    weight = torch.randn_like(plain[0])
    for a, b in zip(torch.autograd.grad(ours[0], leaves, weight), torch.autograd.grad(plain[0], leaves, weight)):
        torch.testing.assert_close(a, b)


def test_gradients():
    assert torch.autograd.gradcheck(lambda *leaves: _registered_norm(*leaves)[:2], _norm_inputs())
    x, bias = _leaf(4, 3), _leaf(3)
    for gelu in (True, False):
        assert torch.autograd.gradcheck(lambda a, b: _bias_activation(a, b, gelu), (x, bias))
    logits, shift = _leaf(2, 2, 3, 4), _leaf(1, 2, 1, 4)
    forbidden = torch.tensor([False, True, False, False]).repeat(2, 1, 3, 1)
    forbidden[1, 0, 2] = True
    assert torch.autograd.gradcheck(lambda a, b: _masked_softmax(a, forbidden, b, 0.5), (logits, shift))


def test_opcheck():
    x, gamma, beta, bias, residual = (leaf.detach().requires_grad_() for leaf in _norm_inputs(torch.float32))
    for keep in (True, False):
        opcheck(_add_layer_norm, (x, residual, bias, gamma, beta, 1e-5, keep))
    opcheck(_add_layer_norm, (x, None, None, gamma, beta, 1e-5, False))
    for gelu in (True, False):
        opcheck(_bias_activation, (x, bias, gelu))
    logits, forbidden = _leaf(2, 2, 3, 4, dtype=torch.float32), torch.rand(2, 1, 3, 1) < 0.3
    opcheck(_masked_softmax, (logits, forbidden, _leaf(1, 2, 1, 4, dtype=torch.float32), 0.5))
    opcheck(_masked_softmax, (logits, None, None, 1.0))


def test_fully_forbidden_rows_are_zero_with_zero_gradient():
    logits = _leaf(1, 2, 3, 4)
    forbidden = torch.tensor([True, False, False]).view(3, 1)
    for form in (masked_softmax, lambda *a: _masked_softmax(a[0], a[1][None, None], None, 1.0)):
        share = form(logits, forbidden)
        assert not share[:, :, 0].any() and torch.allclose(share[:, :, 1:].sum(-1), share.new_ones(()))
        (grad,) = torch.autograd.grad(share.square().sum(), logits)
        assert not grad[:, :, 0].any() and grad[:, :, 1:].all()


def test_nan_stays_in_its_row():
    x = torch.tensor([[1.0, float("nan")], [1.0, 2.0]])
    ones = torch.ones(2)
    assert add_layer_norm(x, ones, ones).isnan().tolist() == [[True, True], [False, False]]
    assert bias_relu(x, ones).isnan().tolist() == [[False, True], [False, False]]
    assert masked_softmax(x[None, None]).isnan().flatten(0, 2).tolist() == [[True, True], [False, False]]
    assert not masked_softmax(x[None, None], torch.tensor([False, True])).isnan().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(dtype):
    leaves = [leaf.detach().to(dtype) for leaf in _norm_inputs()]
    wide = [leaf.double() for leaf in leaves]
    bound = {"rtol": torch.finfo(dtype).eps, "atol": 1e-5}
    for ours, exact in zip(add_layer_norm_with_sum(*leaves), _add_layer_norm_reference(*wide, 1e-5)):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), exact, **bound)
    for form, gelu in ((bias_gelu, True), (bias_relu, False)):
        exact = _bias_activation_reference(wide[0], wide[1], gelu)
        torch.testing.assert_close(form(leaves[0], leaves[1]).double(), exact, **bound)
    logits = leaves[0][None]
    exact = _masked_softmax_reference(logits.double(), None, None, 3.0)
    torch.testing.assert_close(masked_softmax(logits, scale=3.0).double(), exact, **bound)


def test_no_rows_and_the_wider_dtype():
    assert add_layer_norm(torch.zeros(0, 3), torch.ones(3), torch.ones(3)).shape == (0, 3)
    assert _registered_norm(torch.zeros(0, 3), torch.ones(3), torch.ones(3), None, None)[2].shape == (0,)
    assert bias_gelu(torch.zeros(2, 0), torch.zeros(0)).shape == (2, 0)
    assert masked_softmax(torch.zeros(1, 2, 0, 3)).shape == (1, 2, 0, 3)
    x = torch.randn(4, 3)
    assert add_layer_norm(x.bfloat16(), torch.ones(3), torch.ones(3), residual=x).dtype == torch.float32


def test_errors_name_the_argument():
    x, row = torch.zeros(4, 3), torch.zeros(3)
    with pytest.raises(ValueError, match=r"add_layer_norm: residual has shape \(3,\), expected \(4, 3\)"):
        add_layer_norm(x, row, row, residual=row)
    with pytest.raises(ValueError, match="at least one column"):
        add_layer_norm(torch.zeros(4, 0), row, row)
    with pytest.raises(ValueError, match=r"bias_relu: bias has shape \(4,\)"):
        bias_relu(x, torch.zeros(4))
    with pytest.raises(ValueError, match="masked_softmax: forbidden has shape"):
        masked_softmax(x[None, None], torch.zeros(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="expected bool"):
        masked_softmax(x[None, None], torch.zeros(3))


class _All(torch.nn.Module):
    def forward(self, x, row, forbidden):
        normed, total = add_layer_norm_with_sum(x, row, row, row, x)
        return masked_softmax(bias_gelu(bias_relu(normed, row), row)[None], forbidden, total[None], 0.5)


def test_exports_as_plain_operators():
    inputs = torch.randn(2, 5, 3), torch.randn(3), torch.rand(5, 3) < 0.3
    program = torch.export.export(_All(), inputs)
    assert not [node for node in program.graph.nodes if "bev" in str(node.target)]
    torch.testing.assert_close(program.module()(*inputs), _All()(*inputs))
