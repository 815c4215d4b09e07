"""Transformer decoder layer with the parameter names of mmcv (``attentions.0.attn``, ``ffns.0.layers``, ``norms``)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.attention.merged_attention import MergedAttention
from bev.registry import MODELS
from bev.structures import CameraRig


class SelfAttention(nn.Module):
    """Multi-head attention among the queries, residual included.

    Args:
        embed_dim, num_heads: of the attention.
        dropout: of the attention weights and of the output.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attn = MergedAttention(embed_dim, num_heads, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, query_pos: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, Q, C); ``query_pos`` is added to queries and keys, not to values; mask (Q, Q) is True where forbidden."""
        key = query + query_pos
        return query + self.dropout(self.attn(key, key, query, attn_mask=mask)[0])


class FeedForward(nn.Module):
    """Two linear layers with ReLU, residual included."""

    def __init__(self, embed_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        expand = nn.Sequential(nn.Linear(embed_dim, hidden_dim), nn.ReLU(inplace=True), nn.Dropout(dropout))
        self.layers = nn.Sequential(expand, nn.Linear(hidden_dim, embed_dim), nn.Dropout(dropout))

    def forward(self, query: Tensor) -> Tensor:
        """(B, Q, C) -> same."""
        return query + self.layers(query)


@MODELS.register_module()
class DetrDecoderLayer(nn.Module):
    """Self-attention, attention to the cameras, feed-forward; a layer norm after each.

    Args:
        embed_dim, num_heads: of the self-attention.
        hidden_dim: of the feed-forward.
        cross_attention: called with (query, query_pos, reference, features, rig); adds its own residual.
        dropout: everywhere in this layer.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, hidden_dim: int, cross_attention: nn.Module, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([SelfAttention(embed_dim, num_heads, dropout), cross_attention])
        self.ffns = nn.ModuleList([FeedForward(embed_dim, hidden_dim, dropout)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(3))

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        reference: Tensor,
        features: Sequence[Tensor],
        rig: CameraRig,
        mask: Tensor | None = None,
    ) -> Tensor:
        """One layer.

        Args:
            query, query_pos: (B, Q, C).
            reference: (B, Q, 3) share of the range.
            features: maps of each level (B, N, C, H_l, W_l).
            rig: calibration with the batch axis.
            mask: (Q, Q) True where a query must not attend.

        Returns:
            (B, Q, C).
        """
        query = self.norms[0](self.attentions[0](query, query_pos, mask))
        query = self.norms[1](self.attentions[1](query, query_pos, reference, features, rig))
        return self.norms[2](self.ffns[0](query))
