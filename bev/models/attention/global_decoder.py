"""Decoder whose queries attend to every image token (DETR; PETR, arXiv 2203.05625; StreamPETR, arXiv 2303.11926)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bev.models.attention.decoder_layer import FeedForward
from bev.models.attention.merged_attention import MergedAttention
from bev.registry import MODELS


class Tokens(NamedTuple):
    """Keys: content ``value`` (B, S, C), position ``pos`` (B, S, C), ``padding`` (B, S) True where to be ignored."""

    value: Tensor
    pos: Tensor
    padding: Tensor | None = None


class GlobalAttention(nn.Module):
    """Multi-head attention of queries to tokens, residual included; ``attn`` is its published name.

    Args:
        embed_dim, num_heads: of the attention.
        dropout: of the attention weights and of the output.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.attn = MergedAttention(embed_dim, num_heads, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, query_pos: Tensor, tokens: Tokens, mask: Tensor | None = None) -> Tensor:
        """(B, Q, C) -> (B, Q, C); positions count for matching, not for what is read; mask (Q, S) True: forbidden."""
        value, pos, padding = tokens
        placed = query + query_pos
        # Queries that attend to themselves share one tensor with their keys, and so one product.
        key = placed if value is query and pos is query_pos else value + pos
        read = self.attn(placed, key, value, key_padding_mask=padding, attn_mask=mask)[0]
        return query + self.dropout(read)


@MODELS.register_module()
class GlobalDecoderLayer(nn.Module):
    """Attention among queries (and to remembered ones), to the image tokens, feed-forward; a layer norm after each.

    Args:
        embed_dim, num_heads: of the attentions.
        hidden_dim: of the feed-forward.
        dropout: everywhere in this layer.
    """

    def __init__(self, embed_dim: int, num_heads: int, hidden_dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(GlobalAttention(embed_dim, num_heads, dropout) for _ in range(2))
        self.ffns = nn.ModuleList([FeedForward(embed_dim, hidden_dim, dropout)])
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dim) for _ in range(3))

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        image: Tokens,
        remembered: Tokens | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """One layer.

        Args:
            query, query_pos: (B, Q, C).
            image: tokens of all cameras.
            remembered: further keys of the self-attention (T of them).
            mask: (Q, Q + T) True where a query must not attend.

        Returns:
            (B, Q, C).
        """
        own = Tokens(query, query_pos)
        if remembered is not None:
            value = torch.cat([query, remembered.value.to(query.dtype)], 1)
            own = Tokens(value, torch.cat([query_pos, remembered.pos.to(query_pos.dtype)], 1))
        query = self.norms[0](self.attentions[0](query, query_pos, own, mask))
        query = self.norms[1](self.attentions[1](query, query_pos, image))
        return self.norms[2](self.ffns[0](query))


class GlobalDecoder(nn.Module):
    """The layers, each of whose results passes one norm."""

    def __init__(self, layers: Sequence[nn.Module], embed_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.post_norm = nn.LayerNorm(embed_dim)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        image: Tokens,
        remembered: Tokens | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, Q, C) -> (layers, B, Q, C)."""
        results = []
        for layer in self.layers:
            query = layer(query, query_pos, image, remembered, mask)
            results.append(self.post_norm(query))
        return torch.stack(results)


@MODELS.register_module()
class GlobalTransformer(nn.Module):
    """A decoder under the published name.

    Args:
        embed_dim: C.
        layers: see :class:`GlobalDecoderLayer`.
    """

    def __init__(self, embed_dim: int, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.decoder = GlobalDecoder(layers, embed_dim)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        image: Tokens,
        remembered: Tokens | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """As :class:`GlobalDecoder`."""
        return self.decoder(query, query_pos, image, remembered, mask)
