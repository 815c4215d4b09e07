"""Operators over rows through their Triton kernels, on CUDA or interpreted, against the plain forms in float64.

Run as a script, with TRITON_INTERPRET=1 where there is no CUDA device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bev.ops import bias_activation as activation
from bev.ops import layer_norm as norm
from bev.ops import masked_softmax as softmax
from bev.ops.triton import takes
from bev.ops.triton.rows import WIDEST

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
Form = Callable[..., Any]


def leaf(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A leaf with every other column of a wider tensor: not contiguous."""
    wide = torch.randn(*shape[:-1], 2 * shape[-1], device=DEVICE)
    return wide.to(dtype)[..., ::2].detach().requires_grad_()


def close(name: str, ours: Tensor, exact: Tensor, units: float) -> None:
    """Within 1e-5, and for half precision ``units`` in the last place besides."""
    epsilon = 0.0 if ours.dtype == torch.float32 else torch.finfo(ours.dtype).eps
    largest = float(exact.detach().abs().max()) if exact.numel() else 0.0
    options = {"atol": 1e-5 * max(1.0, largest), "rtol": units * epsilon}
    if units > 1:  # what is summed of rounded parts errs by a share of the largest part
        options["atol"] += units * epsilon * largest
    torch.testing.assert_close(ours.double(), exact, **options, msg=lambda text: f"{name}: {text}")


def check(name: str, ours: Form, plain: Form, leaves: Sequence[Tensor]) -> None:
    """Values and gradients; some leaves have gradients of sums over all rows, kept in float32 until they are whole."""
    exact = [part.detach().double().requires_grad_() for part in leaves]
    pairs = [(ours(*leaves), plain(*exact))]
    pairs = list(zip(*pairs[0])) if isinstance(pairs[0][0], tuple) else pairs
    weights = [torch.randn(mine.shape, device=DEVICE).to(mine.dtype) for mine, _ in pairs]
    for mine, other in pairs:
        close(name, mine, other, 1)
    grads = torch.autograd.grad([mine for mine, _ in pairs], leaves, weights)
    expected = torch.autograd.grad([other for _, other in pairs], exact, [weight.double() for weight in weights])
    for index, (mine, other) in enumerate(zip(grads, expected)):
        close(f"{name}, gradient {index}", mine, other, 4)


def check_layer_norm() -> None:
    """Widths below, at and above powers of two and the widest tile; with and without each addition; two results."""
    for shape, dtypes in (((2, 3, 96), DTYPES), ((37, 7), DTYPES[:1]), ((3, WIDEST + 5), DTYPES[:1])):
        for dtype in dtypes:
            x, residual = leaf(*shape, dtype=dtype), leaf(*shape, dtype=dtype)
            gamma, beta, bias = (leaf(shape[-1], dtype=dtype) for _ in range(3))
            form = partial(norm._add_layer_norm_reference, eps=1e-5)
            check(f"layer norm {shape} {dtype}", norm.add_layer_norm_with_sum, form, (x, gamma, beta, bias, residual))
    x, gamma, beta = leaf(5, 4), leaf(4), leaf(4)
    check("layer norm alone", norm.add_layer_norm, lambda *a: norm._add_layer_norm_reference(*a, None, None, 1e-5)[0],
          (x, gamma, beta))  # fmt: skip
    column = norm.add_layer_norm(leaf(3, 1), leaf(1), beta[:1])
    torch.testing.assert_close(column, beta[:1].expand(3, 1))
    mixed = norm.add_layer_norm(x.half(), gamma, beta, residual=x)
    assert mixed.dtype == torch.float32
    with torch.no_grad():
        x[2, 1] = float("nan")
        assert norm.add_layer_norm(x, gamma, beta).isnan().any(1).tolist() == [False, False, True, False, False]


def check_activations() -> None:
    """Several blocks of rows and columns, one column, NaN, both activations."""
    for name, form, gelu in (("gelu", activation.bias_gelu, True), ("relu", activation.bias_relu, False)):
        plain = partial(activation._bias_activation_reference, gelu=gelu)
        for shape, dtypes in (((2, 3, 130), DTYPES), ((70, 1), DTYPES[:1])):
            for dtype in dtypes:
                check(f"{name} {shape} {dtype}", form, plain, (leaf(*shape, dtype=dtype), leaf(shape[-1], dtype=dtype)))
        x = torch.tensor([[float("nan"), 1.0]], device=DEVICE)
        assert form(x, x[0].nan_to_num()).isnan().tolist() == [[True, False]]


def check_softmax() -> None:
    """Masks and biases that spread over every axis, rows that are forbidden as a whole, rows wider than a tile."""
    for shape, dtypes in (((2, 3, 5, 7), DTYPES), ((1, 1, 2, WIDEST + 5), DTYPES[:1])):
        batch, heads, queries, keys = shape
        forbidden = torch.rand(batch, 1, queries, keys, device=DEVICE) < 0.4
        forbidden[0, 0, 0], forbidden[:, :, :, 0] = True, True
        for dtype in dtypes:
            for bias in (leaf(heads, 1, keys, dtype=dtype), leaf(batch, 1, queries, keys, dtype=dtype)):
                ours = lambda x, b: softmax.masked_softmax(x, forbidden, b, 0.3)  # noqa: E731
                plain = lambda x, b: softmax._masked_softmax_reference(x, forbidden, b, 0.3)  # noqa: E731
                check(f"softmax {shape} {dtype}", ours, plain, (leaf(*shape, dtype=dtype), bias))
    logits = leaf(1, 2, 3, 4)
    check("softmax alone", softmax.masked_softmax, lambda x: x.softmax(-1), (logits,))
    shift = torch.randn(1, 1, 3, 1, device=DEVICE)  # the same for all keys: changes nothing
    torch.testing.assert_close(softmax.masked_softmax(logits, None, shift), logits.softmax(-1))
    every = torch.ones(1, 1, 3, 1, dtype=torch.bool, device=DEVICE)
    assert not softmax.masked_softmax(logits, every).any()
    with torch.no_grad():
        logits[0, 0, 1, 2] = float("nan")
        ours = softmax.masked_softmax(logits, torch.tensor([False, False, True, False], device=DEVICE))
        assert not ours.isnan().any() and float(ours[0, 0, 1].sum()) == 1
        assert softmax.masked_softmax(logits).isnan().any(-1).sum() == 1


if __name__ == "__main__":
    assert takes(DEVICE), "neither CUDA nor TRITON_INTERPRET=1"
    torch.manual_seed(0)
    check_layer_norm()
    check_activations()
    check_softmax()
    print("equal")
