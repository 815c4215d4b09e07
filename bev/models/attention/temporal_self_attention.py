"""BEVFormer's temporal self-attention: the BEV grid reads the previous frame's map and itself."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from bev.models.attention.deformable import DeformableSampling
from bev.registry import MODELS

Compat = Literal["fixed", "official"]


class History(NamedTuple):
    """The previous frame, in the present frame's axes.

    Attributes:
        bev: (B, Y * X, C) rotated to the present heading.
        present: (B, Y * X, C) the grid's queries before the first layer.
        continues: (B,) bool; where False the frame has no past and attends twice to itself.
    """

    bev: Tensor
    present: Tensor
    continues: Tensor


@MODELS.register_module()
class TemporalSelfAttention(DeformableSampling):
    """Deformable attention on two maps, averaged (Li et al., BEVFormer, ECCV 2022, section 3.4); adds its residual.

    Args:
        embed_dim, num_heads, num_points: of the attention.
        dropout: of the output.
        compat: ``"official"`` computes the offsets of frame b of a batch from row b of the interleaved list (past 0,
            present 0, past 1, ...), as the published code does; equal to ``"fixed"`` for one frame.
    """

    def __init__(
        self, embed_dim: int, num_heads: int = 8, num_points: int = 4, dropout: float = 0.1, compat: Compat = "fixed"
    ) -> None:
        super().__init__(embed_dim, num_heads, 1, num_points, query_dim=2 * embed_dim, sets=2)
        self.dropout, self.official = nn.Dropout(dropout), compat == "official"

    def forward(
        self, query: Tensor, query_pos: Tensor, points: Tensor, history: History | None, shape: tuple[int, int]
    ) -> Tensor:
        """Read both maps.

        Args:
            query, query_pos: (B, Q, C) with Q = Y * X.
            points: (B, 2, Q, 2) x, y of every cell in the previous map and in the present one, as shares of the map.
            history: the previous frame; None where no frame of the batch has one.
            shape: (Y, X).

        Returns:
            (B, Q, C).
        """
        maps = torch.stack([query, query], 1)
        if history is not None:
            pair = torch.stack([history.bev, history.present], 1).to(maps.dtype)
            maps = torch.where(history.continues[:, None, None, None], pair, maps)
        past = maps.flatten(0, 1)[: query.shape[0]] if self.official else maps[:, 0]
        samples = self.raw(torch.cat([past, query + query_pos], -1), [shape])
        values = self.values(maps)
        read: Tensor | float = 0.0
        for index, raw in enumerate(samples):
            read = read + self.attend(values[:, index], [shape], points[:, index], raw)
        return query + self.dropout(self.output_proj(read / len(samples)))
