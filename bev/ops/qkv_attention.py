"""Multi-head attention with as few matrix products before it as its inputs allow.

Queries, keys and values that are projections of one tensor are one product with the joined weights; DETR-style layers
add positions to queries and keys alone, so that there two of the three share a tensor and the products are two. Two are
fewer operations than one product of everything with a second one of the positions. The rest is torch's
``scaled_dot_product_attention``, which picks a fused kernel where there is one. Plain torch: it compiles and exports.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def project_qkv(
    query: Tensor,  # (B, Q, C)
    key: Tensor,  # (B, S, C)
    value: Tensor,  # (B, S, C)
    weight: Tensor,  # (3 * C, C)
    bias: Tensor | None = None,  # (3 * C,)
) -> tuple[Tensor, Tensor, Tensor]:
    """Projections of queries, keys and values.

    Args:
        query, key, value: inputs; the same object where they share their input, which is what is looked at.
        weight, bias: rows of queries, keys and values one after the other, as ``nn.MultiheadAttention.in_proj_weight``
            and ``in_proj_bias``.

    Returns:
        (B, Q, C), (B, S, C), (B, S, C): views of one product for inputs that are one tensor.

    Raises:
        ValueError: the weights are not those of three projections.
    """
    c = query.shape[-1]
    if tuple(weight.shape) != (3 * c, c) or (bias is not None and tuple(bias.shape) != (3 * c,)):
        shapes = tuple(weight.shape), None if bias is None else tuple(bias.shape)
        raise ValueError(f"project_qkv: weight and bias have shapes {shapes}, expected {(3 * c, c)} and {(3 * c,)}")

    def product(x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        rows = slice(first * c, last * c)
        joined = F.linear(x, weight[rows], None if bias is None else bias[rows])
        return joined.split(c, -1)

    if query is key and key is value:
        q, k, v = product(query, 0, 3)
    elif query is key:
        (q, k), (v,) = product(query, 0, 2), product(value, 2, 3)
    elif key is value:
        (q,), (k, v) = product(query, 0, 1), product(key, 1, 3)
    else:
        (q,), (k,), (v,) = product(query, 0, 1), product(key, 1, 2), product(value, 2, 3)
    return q, k, v


def qkv_attention(
    query: Tensor,  # (B, Q, C)
    key: Tensor,  # (B, S, C)
    value: Tensor,  # (B, S, C)
    weight: Tensor,  # (3 * C, C)
    bias: Tensor | None,  # (3 * C,)
    num_heads: int,
    forbidden: Tensor | None = None,  # spreads to (B, heads, Q, S), bool
    dropout: float = 0.0,
) -> Tensor:
    """Projections and attention, without the output projection (Vaswani et al., arXiv 1706.03762, section 3.2.2).

    Args:
        query, key, value, weight, bias: see :func:`project_qkv`.
        num_heads: divides C.
        forbidden: True where a query must not look. A query that may look nowhere gives what torch gives.
        dropout: of the attention weights.

    Returns:
        (B, Q, C).

    Raises:
        ValueError: heads do not divide the channels, or the weights do not fit.
    """
    if query.shape[-1] % num_heads:
        raise ValueError(f"qkv_attention: {num_heads} heads do not divide {query.shape[-1]} channels")
    parts = project_qkv(query, key, value, weight, bias)
    q, k, v = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in parts)
    allowed = None if forbidden is None else forbidden.logical_not()
    return F.scaled_dot_product_attention(q, k, v, allowed, dropout).transpose(1, 2).flatten(2)


def _qkv_attention_reference(
    query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor | None, num_heads: int,
    forbidden: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Three products and a softmax."""
    weights = weight.chunk(3)
    biases = [None] * 3 if bias is None else bias.chunk(3)
    parts = [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases)]
    q, k, v = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in parts)
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if forbidden is not None:
        logits = logits.masked_fill(forbidden, -torch.inf)
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
