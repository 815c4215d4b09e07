"""``nn.MultiheadAttention`` with as few products as its inputs allow; parameters, names and start are torch's."""

from __future__ import annotations

from torch import Tensor, nn

from bev.ops.qkv_attention import qkv_attention


class MergedAttention(nn.MultiheadAttention):
    """Multi-head attention with the batch axis first, weights not returned.

    Args:
        embed_dim, num_heads: of the attention.
        dropout: of the attention weights.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__(embed_dim, num_heads, dropout, batch_first=True)

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """(B, Q, C), (B, S, C), (B, S, C) -> (B, Q, C) and None; inputs that are one object are projected at once.

        Args:
            query, key, value: inputs.
            key_padding_mask: (B, S) bool, True where a key must be ignored.
            need_weights: must be False.
            attn_mask: (Q, S) bool, True where a query must not attend.

        Raises:
            ValueError: weights are asked for.
        """
        if need_weights:
            raise ValueError("MergedAttention does not return weights: need_weights must be False")
        padding = None if key_padding_mask is None else key_padding_mask[:, None, None]
        forbidden = padding if attn_mask is None else attn_mask if padding is None else attn_mask | padding
        dropout = self.dropout if self.training else 0.0
        weights = self.in_proj_weight, self.in_proj_bias
        read = qkv_attention(query, key, value, *weights, self.num_heads, forbidden, dropout)
        return self.out_proj(read), None
