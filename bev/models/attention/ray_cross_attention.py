"""Camera attention with several points a query, laid out and weighed in the ray-aligned frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.geometry.frustum import DepthBins
from bev.geometry.projection import in_image, project
from bev.geometry.rays import ray, rotate
from bev.models.coders.box_refinement import MetricRange
from bev.ops.camera_sampling import camera_sampling
from bev.registry import MODELS
from bev.structures import CameraRig

_FREQUENCIES = 6  # of the point encoding; the shortest wave is 100 m / 2^5, about 3 m


class PointEncoding(nn.Module):
    """(..., 3) points in m -> (..., C): Fourier features of the position, log range and azimuth, through an MLP."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(4 * _FREQUENCIES + 4, embed_dim), nn.ReLU(inplace=True), nn.Linear(embed_dim, embed_dim)
        )

    def forward(self, point_m: Tensor) -> Tensor:
        """Computed in float32 even under autocast."""
        with torch.autocast(point_m.device.type, enabled=False):
            direction, range_m = ray(point_m)
            wave = 2.0 ** torch.arange(_FREQUENCIES, device=point_m.device) * (2 * math.pi / 100)
            phase = (point_m[..., :2, None] * wave).flatten(-2)
            shape = torch.stack([range_m.log() - 3, point_m[..., 2] / 3], -1)
            return self.mlp(torch.cat([phase.sin(), phase.cos(), direction, shape], -1))


def depth_profile(probability: Tensor, position: Tensor, reach: int) -> Tensor:
    """What the depth distribution says around a point's own depth.

    Args:
        probability: (..., D) of each depth bin.
        position: (...,) fractional bin of the point, as from :func:`bin_position`.
        reach: bins on either side.

    Returns:
        (..., 2 reach + 1) linearly interpolated probabilities at ``position + (-reach .. reach)``; 0 beyond the bins.
    """
    bins = probability.shape[-1]
    position = position.clamp(-1, bins)  # a point outside reads the empty padding
    padded = nn.functional.pad(probability, (reach + 1, reach + 2))
    first = position.detach().floor()
    share = (position - first).unsqueeze(-1)
    index = (first.long() + 1).unsqueeze(-1) + torch.arange(2 * reach + 2, device=position.device)
    window = padded.gather(-1, index)
    return window[..., :-1] * (1 - share) + window[..., 1:] * share


def bin_position(depth_m: Tensor, bins: DepthBins) -> Tensor:
    """(...,) depths -> (...,) fractional bins, k at the middle of bin k of log-spaced bins."""
    low, high = bins.edges_m[0], bins.edges_m[-1]
    return (depth_m.clamp(min=0.1) / low).log() * (len(bins) / math.log(high / low)) - 0.5


@MODELS.register_module()
class RayCrossAttention(nn.Module):
    """Reads image features and depth distributions at points around the reference; any number of cameras.

    The maps hold C feature channels, then D depth probabilities. Every query predicts P offsets along, across and
    above its viewing ray, in proportion to its range, and a weight for each. A point's samples are averaged over the
    cameras that see it, since with everything relative to the ray the camera does not matter. Of the depth
    distribution a query gets what lies around each point's own depth: with log-spaced bins that, too, looks the same
    at every range.

    Args:
        embed_dim: of queries and feature channels.
        range_m: box that references are shares of.
        depth_bins: log-spaced.
        num_levels: of the maps.
        num_points: P.
        profile_reach: bins of the depth profile on either side of a point.
        offset_share: offset of a raw prediction of 1, as a share of the range.
        dropout: of the output.
    """

    def __init__(
        self,
        embed_dim: int,
        range_m: Sequence[float],
        depth_bins: DepthBins,
        num_levels: int = 1,
        num_points: int = 4,
        profile_reach: int = 6,
        offset_share: float = 0.05,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.range, self.depth_bins = MetricRange(range_m), depth_bins
        self.num_points, self.num_levels = num_points, num_levels
        self.profile_reach, self.offset_share = profile_reach, offset_share
        self.offsets = nn.Linear(embed_dim, num_points * 3)
        self.weights = nn.Linear(embed_dim, num_points * num_levels)
        self.output_proj = nn.Linear(num_points * (embed_dim + 2 * profile_reach + 1), embed_dim)
        self.position_encoder = PointEncoding(embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.initialise()

    def initialise(self) -> None:
        """One point on the reference, the others on a circle across and above the ray; equal weights."""
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        angle = torch.arange(self.num_points - 1) * (2 * math.pi / max(self.num_points - 1, 1))
        circle = torch.stack([torch.zeros_like(angle), angle.sin(), angle.cos()], -1)
        with torch.no_grad():
            self.offsets.bias[3:] = circle.flatten()

    def forward(
        self, query: Tensor, query_pos: Tensor, reference: Tensor, features: Sequence[Tensor], rig: CameraRig
    ) -> Tensor:
        """Read the cameras.

        Args:
            query, query_pos: (B, Q, C).
            reference: (B, Q, 3) float32 share of the range.
            features: L maps (B, N, C + D, H_l, W_l).
            rig: calibration with the batch axis.

        Returns:
            (B, Q, C) query + what was read + encoding of the reference.
        """
        point_m = self.range.to_metric(reference)
        key = query + query_pos
        read, depth_m = self._sample(self._points(key, point_m), self.weights(key), features, rig)
        features_read, probability = read.split([query.shape[-1], len(self.depth_bins)], -1)
        profile = depth_profile(probability, bin_position(depth_m, self.depth_bins), self.profile_reach)
        value = torch.cat([features_read, profile], -1).flatten(2)
        return query + self.dropout(self.output_proj(value)) + self.position_encoder(point_m)

    def _points(self, key: Tensor, point_m: Tensor) -> Tensor:
        """(B, Q, P, 3) sampling points in the reference frame, m."""
        offset = self.offsets(key).float().unflatten(-1, (self.num_points, 3))
        direction, range_m = ray(point_m)
        horizontal = rotate(offset[..., :2], direction.unsqueeze(-2))
        scale = (self.offset_share * range_m)[..., None, None]
        return point_m.unsqueeze(-2) + torch.cat([horizontal, offset[..., 2:]], -1) * scale

    def _sample(
        self, points_m: Tensor, weights: Tensor, features: Sequence[Tensor], rig: CameraRig
    ) -> tuple[Tensor, Tensor]:
        """(B, Q, P, C + D) weighted samples, averaged over the cameras that see a point, and (B, Q, P) mean depths."""
        shape = points_m.shape[1:3]
        pixels_px, depth_m = project(points_m.flatten(1, 2), rig.img_from_ref)
        visible = in_image(pixels_px, depth_m, rig.image_size_px)
        share = visible / visible.sum(1, keepdim=True).clamp(min=1)  # (B, N, Q P)
        weights = 2 * weights.float().sigmoid().unflatten(-1, (self.num_points, self.num_levels)).flatten(1, 2)
        per_camera = share.transpose(1, 2)[..., None, None] * weights[:, :, None, None]
        read = camera_sampling(features, pixels_px.unsqueeze(3), visible.unsqueeze(3), per_camera, rig.image_size_px)
        return read.unflatten(1, shape), (depth_m * share).sum(1).unflatten(1, shape)
