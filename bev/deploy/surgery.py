"""Changes of a model before it becomes a graph; each leaves its numbers as they are, up to rounding."""

from __future__ import annotations

import math

from torch import Tensor, nn

from bev.models.folding import fold_batch_norms
from bev.models.reparam import switch_to_deploy
from bev.ops.qkv_attention import project_qkv

__all__ = ["PlainAttention", "fold_batch_norms", "plain_attention", "switch_to_deploy"]


class PlainAttention(nn.Module):
    """``nn.MultiheadAttention`` (``batch_first``, no bias rows) as matrix products and a softmax.

    Queries, keys and values of one tensor are one product, those of two tensors two; torch's own form folds shapes in
    a way that ties the graph to the example's batch.
    """

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
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
        parts = project_qkv(query, key, value, self.in_proj_weight, self.in_proj_bias)
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


def plain_attention(module: nn.Module) -> int:
    """Replace every ``nn.MultiheadAttention`` in a module (in place); how many there were."""
    count = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, PlainAttention(child))
                count += 1
    return count
