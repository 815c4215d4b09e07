"""Cross-attention of object queries to a bird's-eye-view map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.attention.deformable import DeformableSampling
from bev.models.attention.spatial_cross_attention import flatten_levels
from bev.registry import MODELS
from bev.structures import CameraRig


@MODELS.register_module()
class BEVCrossAttention(DeformableSampling):
    """Deformable attention around a query's reference point in the map; adds its own residual (BEVFormer's decoder).

    Args:
        embed_dim, num_heads, num_points: of the attention.
        dropout: of the output.
    """

    def __init__(self, embed_dim: int, num_heads: int = 8, num_points: int = 4, dropout: float = 0.1) -> None:
        super().__init__(embed_dim, num_heads, 1, num_points)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        reference: Tensor,
        features: Sequence[Tensor],
        rig: CameraRig | None = None,
    ) -> Tensor:
        """Read the map.

        Args:
            query, query_pos: (B, Q, C).
            reference: (B, Q, 3) share of the range that the map covers.
            features: one map (B, 1, C, Y, X), row 0 at the lowest y.
            rig: not needed: the map is already in the reference frame.

        Returns:
            (B, Q, C).
        """
        tokens = flatten_levels(features)
        (raw,) = self.raw(query + query_pos, tokens.shapes)
        values = self.values(tokens.values.flatten(0, 1))
        read = self.attend(values, tokens.shapes, reference[..., :2].float(), raw)
        return query + self.dropout(self.output_proj(read))
