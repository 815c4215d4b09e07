"""DETR3D's cross-attention: a query reads the image features where its reference point is seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.models.coders.box_refinement import MetricRange, inverse_sigmoid
from bev.ops.projected_sampling import projected_sampling
from bev.registry import MODELS
from bev.structures import CameraRig


@MODELS.register_module()
class CameraCrossAttention(nn.Module):
    """Weighted sum of the features at the projections of one point a query (Wang et al., DETR3D, section 3.3).

    The weights belong to cameras by index: weights learned with one camera order mean nothing with another.

    Args:
        embed_dim: of queries and features.
        num_cameras, num_levels: that the weights are learned for.
        range_m: box that reference points are shares of.
        num_points: weights a camera and level; all multiply the same sample, as in the published code.
        dropout: of the output.
    """

    def __init__(
        self,
        embed_dim: int,
        num_cameras: int,
        num_levels: int,
        range_m: Sequence[float],
        num_points: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.range = MetricRange(range_m)
        self.weights_shape = (num_cameras, num_points, num_levels)
        self.attention_weights = nn.Linear(embed_dim, num_cameras * num_points * num_levels)
        self.output_proj = nn.Linear(embed_dim, embed_dim)
        self.position_encoder = nn.Sequential(
            nn.Linear(3, embed_dim),
            nn.LayerNorm(embed_dim),
            nn.ReLU(inplace=True),
            nn.Linear(embed_dim, embed_dim),
            nn.LayerNorm(embed_dim),
            nn.ReLU(inplace=True),
        )
        self.dropout = nn.Dropout(dropout)

    def initialise(self) -> None:
        """The published start: equal weights everywhere."""
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        nn.init.xavier_uniform_(self.output_proj.weight)
        nn.init.zeros_(self.output_proj.bias)

    def forward(
        self, query: Tensor, query_pos: Tensor, reference: Tensor, features: Sequence[Tensor], rig: CameraRig
    ) -> Tensor:
        """Read the cameras.

        Args:
            query, query_pos: (B, Q, C).
            reference: (B, Q, 3) float32 share of the range in [0, 1].
            features: L maps (B, N, C, H_l, W_l).
            rig: calibration with the batch axis.

        Returns:
            (B, Q, C) query + what was read + encoding of the reference.

        Raises:
            ValueError: the rig's number of cameras or the number of levels is not the learned one.
        """
        if (rig.num_cameras, len(features)) != (self.weights_shape[0], self.weights_shape[2]):
            raise ValueError(
                f"these attention weights are learned for {self.weights_shape[0]} cameras and "
                f"{self.weights_shape[2]} levels, got {rig.num_cameras} ({', '.join(rig.names)}) and {len(features)}"
            )
        weights = self.attention_weights(query + query_pos).unflatten(-1, self.weights_shape)
        # Sigmoid and the sum over points in float32: the samples are weighed in the precision of the geometry.
        weights = weights.float().sigmoid().sum(3, keepdim=True)
        points_m = self.range.to_metric(reference).unsqueeze(2)
        read = projected_sampling(features, points_m, rig.img_from_ref, weights, rig.image_size_px)
        with torch.autocast(query.device.type, enabled=False):  # a bf16 reference is off by up to 40 cm
            position = self.position_encoder(inverse_sigmoid(reference))
        return query + self.dropout(self.output_proj(read)) + position
