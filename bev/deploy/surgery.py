"""Changes of a model before it becomes a graph; each leaves its numbers as they are, up to rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.folding import fold_batch_norms
from bev.models.reparam import switch_to_deploy
from bev.ops.qkv_attention import project_qkv

__all__ = ["PlainAttention", "Surgery", "fold_batch_norms", "plain_attention", "switch_to_deploy"]


@dataclass(frozen=True)
class Surgery:
    """What is changed before a graph is written.

    Attributes:
        fuse_branches: blocks with branches (RepVGG and its kin) become one convolution.
        fold_norms: batch norms become part of the convolutions before them.
        merge_qkv: queries, keys and values of one tensor are one product.
        merge_convs: convolutions of one tensor become one (ONNX alone).
        fold_constants: what depends on no input is computed once, also of baked cameras (ONNX alone).
        pools_as_convs: average pooling becomes a depthwise convolution, for targets that want it (ONNX alone).
    """

    fuse_branches: bool = True
    fold_norms: bool = True
    merge_qkv: bool = True
    merge_convs: bool = True
    fold_constants: bool = True
    pools_as_convs: bool = False

    def change(self, model: nn.Module) -> None:
        """The part that is done to a detector, in place."""
        plain_attention(model, self.merge_qkv)
        if self.fuse_branches:
            switch_to_deploy(model)
        if self.fold_norms:
            fold_batch_norms(model)


class PlainAttention(nn.Module):
    """``nn.MultiheadAttention`` (``batch_first``, no bias rows) as matrix products and a softmax.

    Queries, keys and values of one tensor are one product, those of two tensors two; torch's own form folds shapes in
    a way that ties the graph to the example's batch.

    Args:
        source: whose weights it takes.
        merged: whether products of one tensor are one.
    """

    def __init__(self, source: nn.MultiheadAttention, merged: bool = True) -> None:
        super().__init__()
        self.merged = merged
        if not source.batch_first or source.in_proj_weight is None or source.bias_k is not None:
            raise ValueError("attention has an export form with batch_first, one input projection and no bias rows")
        self.num_heads, self.embed_dim = source.num_heads, source.embed_dim
        self.in_proj_weight, self.in_proj_bias = source.in_proj_weight, source.in_proj_bias
        self.out_proj = source.out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """(B, Q, C), (B, S, C), (B, S, C) -> (B, Q, C); masks are bool, True where forbidden: (B, S) and (Q, S)."""
        if self.merged:
            parts = project_qkv(query, key, value, self.in_proj_weight, self.in_proj_bias)
        else:
            weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
            q, k, v = map(F.linear, (query, key, value), weights, biases)
            parts = q, k, v
        q, k, v = (self._heads(part) for part in parts)
        logits = (q * (1 / math.sqrt(self.embed_dim // self.num_heads))) @ k.transpose(-1, -2)
        if attn_mask is not None:
            logits = logits.masked_fill(attn_mask, -math.inf)
        if key_padding_mask is not None:
            logits = logits.masked_fill(key_padding_mask[:, None, None], -math.inf)
        read = logits.softmax(-1) @ v
        return self.out_proj(read.transpose(1, 2).flatten(2)), None

    def _heads(self, x: Tensor) -> Tensor:
        """(B, S, C) -> (B, heads, S, C / heads)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def plain_attention(module: nn.Module, merged: bool = True) -> int:
    """Replace every ``nn.MultiheadAttention`` in a module (in place); how many there were."""
    count = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, PlainAttention(child, merged))
                count += 1
    return count
