"""PETR's head: 3D positions for every image token and for every query, then a plain DETR decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.models.assigners import HungarianAssigner3D
from bev.models.attention import GlobalTransformer, Tokens
from bev.models.attention.camera_rays import ray_depths, ray_points
from bev.models.attention.sine_positions import encode_cells, encode_points
from bev.models.coders import MetricRange, NMSFreeCoder, SigmoidRefinement, inverse_sigmoid
from bev.models.heads import QueryHead
from bev.models.heads.query_seeds import QuerySeeds
from bev.registry import MODELS
from bev.structures import CameraRig


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, outputs, 1))


@MODELS.register_module()
class PETRHead(QueryHead):
    """PETR (Liu et al., ECCV 2022, arXiv 2203.05625) with the published parameter names.

    Args:
        transformer: the decoder.
        in_channels: of the features.
        embed_dim: C, even.
        range_m: box that reference points are shares of: x, y, z of two corners.
        position_range_m: box that the points along the rays are shares of; its largest x is the largest depth.
        depth_count: D points along a ray.
        depth_low_m: the first one.
        increasing: depth steps that grow (published), or equal ones.
        across_cameras: sine positions count the camera too, not only row and column.
        num_queries, num_classes, assigner, coder, loss_cls, loss_bbox, code_weights: as in ``QueryHead``.
        num_branches: names that the one pair of branches has in checkpoints; at least the number of layers.
        num_peaks: queries beside the learned ones that begin at peaks of the image heatmaps; not published.
        refinement: how a regression moves a reference point, over ``range_m``; None: as published, in the logits of its
            share of the range.
    """

    depths_m: Tensor

    def __init__(
        self,
        transformer: GlobalTransformer,
        in_channels: int,
        num_queries: int,
        embed_dim: int,
        num_classes: int,
        range_m: Sequence[float],
        position_range_m: Sequence[float],
        assigner: HungarianAssigner3D,
        coder: NMSFreeCoder,
        loss_cls: nn.Module,
        loss_bbox: nn.Module,
        depth_count: int = 64,
        depth_low_m: float = 1.0,
        increasing: bool = True,
        across_cameras: bool = True,
        code_weights: Sequence[float] = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2),
        num_branches: int = 6,
        num_peaks: int = 0,
        refinement: MetricRange | None = None,
    ) -> None:
        super().__init__(
            num_queries,
            embed_dim,
            num_classes,
            num_branches,
            assigner,
            coder,
            loss_cls,
            loss_bbox,
            code_weights,
            shared_branches=True,
        )
        layers = len(transformer.decoder.layers)
        if layers > num_branches:
            raise ValueError(f"{layers} decoder layers need as many branches, not {num_branches}")
        self.transformer, self.across_cameras, self.axis_channels = transformer, across_cameras, embed_dim // 2
        self.position_range = MetricRange(position_range_m)
        self.refinement: MetricRange = SigmoidRefinement(range_m) if refinement is None else refinement
        depths_m = ray_depths(depth_low_m, float(position_range_m[3]), depth_count, increasing)
        self.register_buffer("depths_m", depths_m, persistent=False)
        self.input_proj = nn.Conv2d(in_channels, embed_dim, 1)
        self.position_encoder = _two_layers(3 * depth_count, 4 * embed_dim, embed_dim)
        axes, hidden = (3, 4 * embed_dim) if across_cameras else (2, embed_dim)
        self.adapt_pos3d = _two_layers(axes * self.axis_channels, hidden, embed_dim)
        self.reference_points = nn.Embedding(num_queries, 3)
        nn.init.uniform_(self.reference_points.weight, 0, 1)
        self.query_embedding = nn.Sequential(
            nn.Linear(3 * self.axis_channels, embed_dim), nn.ReLU(), nn.Linear(embed_dim, embed_dim)
        )

        self.num_peaks = num_peaks
        if num_peaks:
            self.seed_content = nn.Linear(in_channels + num_classes, embed_dim)

    def forward(
        self,
        features: Sequence[Tensor],
        rig: CameraRig,
        valid_size_px: tuple[int, int] | None = None,
        seeds: QuerySeeds | None = None,
    ) -> dict[str, Tensor]:
        """Predict.

        Args:
            features: levels (B, N, in_channels, H, W), of which the first is used.
            rig: calibration with the batch axis.
            valid_size_px: (H, W) of the network image without its padding below and to the right; None: no padding.
            seeds: of the image, with ``num_peaks``; those queries come last.

        Returns:
            ``cls_logits`` (layers, B, Q, num_classes) and ``box_code`` (layers, B, Q, 10; m, rad, m/s).
        """
        projected = self.input_proj(features[0].flatten(0, 1)).unflatten(0, features[0].shape[:2])
        valid = self._valid(projected, rig, valid_size_px)
        position = self.encode_rays(rig, projected.shape[-2:])[0] + self._encode_cells(valid).to(projected.dtype)
        image = Tokens(_flat(projected), _flat(position), None if valid_size_px is None else ~valid.flatten(1))
        reference = self.reference_points.weight.expand(projected.shape[0], -1, -1)
        content = torch.zeros(*reference.shape[:2], projected.shape[2], device=reference.device)
        if seeds is not None:
            reference = torch.cat([reference, self.refinement.from_metric(seeds.point_m).clamp(0, 1)], 1)
            content = torch.cat([content, self.seed_content(seeds.known).to(content.dtype)], 1)
        query_pos = self.query_embedding(encode_points(reference, self.axis_channels))
        decoded = self.transformer(content.to(query_pos.dtype), query_pos, image)
        raw = torch.stack([branch(query) for branch, query in zip(self.reg_branches, decoded)])
        return {"cls_logits": self.classify(decoded), "box_code": self.refinement(raw.float(), reference)[1]}

    def encode_rays(self, rig: CameraRig, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """3D positions of the feature pixels.

        Args:
            rig: calibration with the batch axis.
            size: (H, W) of the features.

        Returns:
            embedding: (B, N, C, H, W) from the points along the ray through each pixel's upper left corner.
            outside: (B, N, H, W) bool, where more than half of the points' coordinates are beyond the position range.
        """
        (rows, columns), (height_px, width_px) = size, rig.image_size_px
        u = torch.arange(columns, device=rig.device) * width_px / columns
        v = torch.arange(rows, device=rig.device) * height_px / rows
        pixels_px = torch.stack(torch.meshgrid(u, v, indexing="xy"), -1).flatten(0, 1)
        share = self.position_range.from_metric(ray_points(rig, pixels_px, self.depths_m))
        beyond = ((share > 1) | (share < 0)).flatten(-2).sum(-1) > 0.5 * len(self.depths_m)
        flat = inverse_sigmoid(share).flatten(-2).transpose(-1, -2).unflatten(-1, (rows, columns))
        embedding = self.position_encoder(flat.flatten(0, 1)).unflatten(0, flat.shape[:2])
        return embedding, beyond.unflatten(-1, (rows, columns))

    def _encode_cells(self, valid: Tensor) -> Tensor:
        """(B, N, H, W) bool -> (B, N, C, H, W)."""
        across = self.across_cameras
        cells = encode_cells(valid, (1, 2, 3) if across else (2, 3), self.axis_channels, interleaved=not across)
        return self.adapt_pos3d(cells.flatten(0, 1).permute(0, 3, 1, 2)).unflatten(0, valid.shape[:2])

    def _valid(self, features: Tensor, rig: CameraRig, valid_size_px: tuple[int, int] | None) -> Tensor:
        """(B, N, H, W) bool: the nearest network pixel is not padding."""
        batch, cameras, _, rows, columns = features.shape
        height, width = valid_size_px or rig.image_size_px
        row = torch.arange(rows, device=features.device) * rig.image_size_px[0] // rows < height
        column = torch.arange(columns, device=features.device) * rig.image_size_px[1] // columns < width
        return (row[:, None] & column).expand(batch, cameras, -1, -1)


def _flat(maps: Tensor) -> Tensor:
    """(B, N, C, H, W) -> (B, N * H * W, C)."""
    return maps.permute(0, 1, 3, 4, 2).flatten(1, 3)
