"""Attention with merged projections against three products, and against torch's module."""

import pytest
import torch
from torch import nn

from bev.models.attention.merged_attention import MergedAttention
from bev.ops import qkv_attention as module
from bev.ops.qkv_attention import _qkv_attention_reference, project_qkv, qkv_attention

SHARED = {"all": (0, 0, 0), "query and key": (0, 0, 1), "key and value": (0, 1, 1), "none": (0, 1, 2)}


def _inputs(shared, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(2, 5, 8, dtype=dtype, generator=generator).requires_grad_() for _ in range(3)]
    weight, bias = (torch.randn(24, *tail, dtype=dtype, generator=generator) for tail in ((8,), ()))
    return [tensors[index] for index in SHARED[shared]], weight.requires_grad_(), bias.requires_grad_()


@pytest.mark.parametrize("shared", list(SHARED))
def test_equals_three_products_forward_and_backward(shared):
    parts, weight, bias = _inputs(shared)
    forbidden = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(1)) < 0.3
    forbidden[..., 0] = False
    ours = qkv_attention(*parts, weight, bias, 2, forbidden)
    plain = _qkv_attention_reference(*parts, weight, bias, 2, forbidden)
    torch.testing.assert_close(ours, plain)
    leaves, above = [*dict.fromkeys(parts), weight, bias], torch.randn_like(plain)
    for a, b in zip(torch.autograd.grad(ours, leaves, above), torch.autograd.grad(plain, leaves, above)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shared, products", zip(SHARED, (1, 2, 2, 3)))
def test_shared_inputs_are_one_product(shared, products, monkeypatch):
    calls = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(module.F, "linear", lambda *a: calls.append(a) or linear(*a))
    parts, weight, bias = _inputs(shared)
    project_qkv(*parts, weight, bias)
    assert len(calls) == products


@pytest.mark.parametrize("shared", list(SHARED))
@pytest.mark.parametrize("training", [True, False])
def test_module_is_torchs_with_its_parameters(shared, training):
    parts, _, _ = _inputs(shared, torch.float32)
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).train(training)
    torch.manual_seed(0)
    ours = MergedAttention(8, 2).train(training)
    assert {n: p.shape for n, p in ours.named_parameters()} == {n: p.shape for n, p in theirs.named_parameters()}
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))
    forbidden, padding = torch.eye(5, dtype=torch.bool), torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True
    for masks in ({}, {"attn_mask": forbidden}, {"key_padding_mask": padding, "attn_mask": forbidden}):
        read, expected = ours(*parts, **masks)[0], theirs(*parts, need_weights=False, **masks)[0]
        torch.testing.assert_close(read, expected, atol=1e-6, rtol=1e-5)


def test_dropout_only_in_training():
    parts, _, _ = _inputs("all", torch.float32)
    attention = MergedAttention(8, 2, dropout=0.5)
    assert not torch.equal(attention(*parts)[0], attention(*parts)[0])
    attention.eval()
    assert torch.equal(attention(*parts)[0], attention(*parts)[0])


def test_exports_and_rejects():
    parts, weight, bias = _inputs("query and key", torch.float32)
    parts = [part.detach() for part in parts]
    attention = MergedAttention(8, 2).eval()
    program = torch.export.export(attention, tuple(parts))
    torch.testing.assert_close(program.module()(*parts)[0], attention(*parts)[0])
    with pytest.raises(ValueError, match="3 heads do not divide 8 channels"):
        qkv_attention(*parts, weight, bias, 3)
    with pytest.raises(ValueError, match="weight and bias have shapes"):
        project_qkv(*parts, weight[:16], bias)
    with pytest.raises(ValueError, match="need_weights must be False"):
        attention(*parts, need_weights=True)
