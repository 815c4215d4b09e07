"""Layer norm, activations, attention weights and projections at the widths of ViT, Swin, BEVFormer and DETR3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.case import Build, Case, size_bytes
from bev.ops.bias_activation import _bias_activation_reference, bias_gelu, bias_relu
from bev.ops.layer_norm import _add_layer_norm_reference, add_layer_norm
from bev.ops.masked_softmax import _masked_softmax_reference, masked_softmax
from bev.ops.qkv_attention import qkv_attention

_QUICK_ROWS, _QUICK_COLUMNS = 6, 10


def _random(device: torch.device, dtype: torch.dtype, *shapes: Sequence[int]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*s, generator=generator).to(device, dtype).requires_grad_() for s in shapes)


def _norm_inputs(rows: int, columns: int) -> Build:
    def inputs(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Tensor, ...]:
        n, c = (_QUICK_ROWS, _QUICK_COLUMNS) if quick else (rows, columns)
        return _random(device, dtype, (n, c), (c,), (c,), (c,), (n, c))

    return inputs


def _activation_inputs(rows: int, columns: int) -> Build:
    def inputs(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Tensor, ...]:
        n, c = (_QUICK_ROWS, _QUICK_COLUMNS) if quick else (rows, columns)
        return _random(device, dtype, (n, c), (c,))

    return inputs


def _softmax_inputs(batch: int, heads: int, queries: int, masks: bool) -> Build:
    def inputs(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
        b, h, q = (2, 2, 5) if quick else (batch, heads, queries)
        logits, bias = _random(device, dtype, (b, h, q, q), (h, q, q))
        forbidden = torch.rand(b, 1, q, q, generator=torch.Generator().manual_seed(0)) < 0.2
        return (logits, forbidden.to(device), None, 0.2) if masks else (logits, None, bias, 0.2)

    return inputs


def _qkv_inputs(queries: int, keys: int, channels: int, positions: bool) -> Build:
    def inputs(device: torch.device, dtype: torch.dtype, quick: bool) -> tuple[Any, ...]:
        q, s, c = (5, 5, 16) if quick else (queries, keys, channels)
        query, value, weight, bias = _random(device, dtype, (1, q, c), (1, s, c), (3 * c, c), (3 * c,))
        with torch.no_grad():
            weight *= c**-0.5
        return (query, query, value, weight, bias, 8) if positions else (query, query, query, weight, bias, 8)

    return inputs


def _plain_norm(x: Tensor, gamma: Tensor, beta: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    return _add_layer_norm_reference(x, gamma, beta, bias, residual, 1e-5)[0]


def _plain_gelu(x: Tensor, bias: Tensor) -> Tensor:
    return _bias_activation_reference(x, bias, True)


def _plain_relu(x: Tensor, bias: Tensor) -> Tensor:
    return _bias_activation_reference(x, bias, False)


def _three_products(query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor, heads: int) -> Tensor:
    """Each projection for itself, then the same attention: what merging them saves is all that is compared."""
    parts = [F.linear(x, w, b) for x, w, b in zip((query, key, value), weight.chunk(3), bias.chunk(3))]
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _through(x: Tensor, *others: Any) -> int:
    """Everything is read once, as much as the first is written."""
    return size_bytes(x, x, *others)


def _qkv_flops(query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor, heads: int) -> int:
    c = query.shape[-1]
    return 2 * c * c * (query.shape[1] + 2 * value.shape[1]) + 4 * c * query.shape[1] * value.shape[1]


_NORMS = {
    "BEVFormer-base: 40000 x 256": (40_000, 256), "DETR3D: 900 x 256": (900, 256),
    "Swin-T, first stage, six cameras: 67584 x 96": (67_584, 96), "ViT-L: 25216 x 1024": (25_216, 1024),
}  # fmt: skip
_WIDTHS = {"Swin-T, first stage: 67584 x 384": (67_584, 384), "ViT-L: 25216 x 4096": (25_216, 4096)}
CASES = [
    *(Case("add_layer_norm", size, _norm_inputs(*n), _plain_norm, add_layer_norm, _through)
      for size, n in _NORMS.items()),
    *(Case("bias_gelu", size, _activation_inputs(*n), _plain_gelu, bias_gelu, _through) for size, n in _WIDTHS.items()),
    Case("bias_relu", "BEVFormer-base: 40000 x 512", _activation_inputs(40_000, 512), _plain_relu, bias_relu, _through),
    Case("masked_softmax", "Swin-T windows: 1380 x 3 x 49 x 49, bias", _softmax_inputs(1_380, 3, 49, False),
         _masked_softmax_reference, masked_softmax, _through),
    Case("masked_softmax", "StreamPETR: 2 x 8 x 900 x 900, mask", _softmax_inputs(2, 8, 900, True),
         _masked_softmax_reference, masked_softmax, _through),
    Case("qkv_attention", "DETR3D: 900 queries, 256 channels, shared q and k", _qkv_inputs(900, 900, 256, True),
         _three_products, qkv_attention, flops=_qkv_flops),
    Case("qkv_attention", "ViT-L: 1600 tokens, 1024 channels, all shared", _qkv_inputs(1_600, 1_600, 1024, False),
         _three_products, qkv_attention, flops=_qkv_flops),
]  # fmt: skip
