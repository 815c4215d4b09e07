"""DETR3D whose queries begin where the images already show objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bev.geometry.rays import ray
from bev.models.assigners import HungarianAssigner3D
from bev.models.attention.ray_cross_attention import PointEncoding
from bev.models.coders import MetricRange, NMSFreeCoder
from bev.models.heads.denoising import Denoising, NoisyQueries
from bev.models.heads.detr3d_head import Detr3DHead
from bev.models.heads.detr3d_transformer import Detr3DTransformer
from bev.models.heads.image_center_head import CenterMaps, ImageCenterHead
from bev.models.heads.query_seeds import query_seeds
from bev.registry import MODELS
from bev.structures import Boxes3D, CameraRig


class Queries(NamedTuple):
    """Where a decoder starts: content (B, Q, C) and reference (B, Q, 3), a share of the range."""

    content: Tensor
    reference: Tensor


@MODELS.register_module()
class SeededDetr3DHead(Detr3DHead):
    """``Detr3DHead`` with three kinds of queries: learned, seeded by the peaks of an image head, and denoising.

    The depth distribution of the image head is appended to the features that the decoder samples.

    Args:
        transformer, num_queries, embed_dim, num_classes, assigner, coder, loss_cls, loss_bbox, code_weights: as in
            ``Detr3DHead``; ``num_queries`` are the learned ones, whose references are predicted by a linear layer.
        image_head: class centres and depth of every pixel.
        num_seeds: queries seeded by image peaks.
        denoising: noised ground truth for training; None for none.
        balance_range_m: errors of x and y weigh in proportion to ``balance_range_m / range`` (at most double): a
            camera's error grows with the range, and far boxes would otherwise be all that is learned. None for equal.
    """

    def __init__(
        self,
        transformer: Detr3DTransformer,
        num_queries: int,
        embed_dim: int,
        num_classes: int,
        assigner: HungarianAssigner3D,
        coder: NMSFreeCoder,
        loss_cls: nn.Module,
        loss_bbox: nn.Module,
        image_head: ImageCenterHead,
        num_seeds: int,
        denoising: Denoising | None = None,
        balance_range_m: float | None = None,
        code_weights: Sequence[float] = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2),
    ) -> None:
        super().__init__(
            transformer, num_queries, embed_dim, num_classes, assigner, coder, loss_cls, loss_bbox, code_weights
        )
        self.range: MetricRange = transformer.refinement  # type: ignore[assignment]
        self.image_head, self.num_seeds, self.denoising = image_head, num_seeds, denoising
        self.balance_range_m = balance_range_m
        self.label_embedding = nn.Embedding(num_classes, embed_dim)
        self.seed_content = nn.Linear(embed_dim + num_classes, embed_dim)
        self.query_position = PointEncoding(embed_dim)

    @property
    def num_matched(self) -> int:
        """Queries of a frame that may be matched: learned and seeded."""
        return self.num_queries + self.num_seeds

    def target_weights(self, target: Tensor) -> Tensor:
        """(M, 10) weight of every entry of the targets' codes."""
        weight = super().target_weights(target)
        if self.balance_range_m is None:
            return weight
        share = (self.balance_range_m / ray(target)[1]).clamp(max=2).unsqueeze(-1)
        return torch.cat([weight[:, :2] * share, weight[:, 2:]], -1)

    def forward(self, features: Sequence[Tensor], rig: CameraRig) -> dict[str, Tensor]:
        """Predict.

        Args:
            features: one map (B, N, C, H, W).
            rig: calibration with the batch axis.

        Returns:
            ``cls_logits`` (layers, B, Q, num_classes) and ``box_code`` (layers, B, Q, 10; m, rad, m/s).
        """
        maps = self.image_head(features[0], rig)
        return self._decode_queries(features[0], maps, self._queries(features[0], maps, rig), rig)

    def forward_train(
        self, features: Sequence[Tensor], rig: CameraRig, boxes: Sequence[Boxes3D]
    ) -> tuple[dict[str, Tensor], CenterMaps, tuple[dict[str, Tensor], NoisyQueries] | None]:
        """Outputs as of :meth:`forward`, the image head's maps, and the outputs and origin of the denoising queries."""
        maps = self.image_head(features[0], rig)
        queries = self._queries(features[0], maps, rig)
        noisy = self.denoising.draw(boxes, self.num_classes) if self.denoising else None
        if noisy is None:
            return self._decode_queries(features[0], maps, queries, rig), maps, None
        content = torch.cat([self.label_embedding(noisy.label), queries.content], 1)
        reference = torch.cat([self.range.from_metric(noisy.point_m).clamp(0, 1), queries.reference], 1)
        mask = noisy.attention_mask(queries.content.shape[1])
        outputs = self._decode_queries(features[0], maps, Queries(content, reference), rig, mask)
        split = [noisy.label.shape[1], queries.content.shape[1]]
        restored, matched = zip(*((part for part in value.split(split, 2)) for value in outputs.values()))
        return dict(zip(outputs, matched)), maps, (dict(zip(outputs, restored)), noisy)

    def _queries(self, feature: Tensor, maps: CenterMaps, rig: CameraRig) -> Queries:
        """Seeded, then learned queries."""
        seeds = query_seeds(self.image_head, feature, maps, rig, self.num_seeds)
        seeded = self.seed_content(seeds.known) + self.label_embedding(seeds.label)
        batch = feature.shape[0]
        position, content = self.query_embedding.weight.expand(batch, -1, -1).chunk(2, -1)
        with torch.autocast(position.device.type, enabled=False):
            learned = self.transformer.reference_points(position).sigmoid()
        reference = torch.cat([self.range.from_metric(seeds.point_m).clamp(0, 1), learned], 1)
        return Queries(torch.cat([seeded, content.to(seeded.dtype)], 1), reference)

    def _decode_queries(
        self, feature: Tensor, maps: CenterMaps, queries: Queries, rig: CameraRig, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        depth = maps.depth_logits.softmax(-1).to(feature.dtype)
        table = torch.cat([feature.permute(0, 1, 3, 4, 2), depth], -1).permute(0, 1, 4, 2, 3)
        query_pos = self.query_position(self.range.to_metric(queries.reference))
        decoder, refinement = self.transformer.decoder, self.transformer.refinement
        decoded = decoder(
            queries.content, query_pos, queries.reference, [table], rig, self.reg_branches, refinement, mask
        )
        return {"cls_logits": self.classify(decoded.queries), "box_code": decoded.code}

    def denoising_loss(
        self, outputs: dict[str, Tensor], noisy: NoisyQueries, boxes: Sequence[Boxes3D], avg_factor: Tensor
    ) -> dict[str, Tensor]:
        """``dn.loss_cls``, ``dn.loss_bbox``: sums over the layers, mean over the groups."""
        sample, query = (noisy.box >= 0).nonzero(as_tuple=True)
        box = noisy.box[sample, query]
        label = torch.full_like(noisy.box, self.num_classes)
        first = torch.tensor([0, *(len(b) for b in boxes)], device=box.device).cumsum(0)[sample]
        label[sample, query] = torch.cat([b.label for b in boxes])[first + box]
        target = torch.cat([self.coder.encode(b) for b in boxes])[first + box]
        weight = self.target_weights(target)
        factor = avg_factor.clamp(min=1) * noisy.groups
        cls = [self.loss_cls(x.flatten(0, 1), label.flatten(), avg_factor=factor) for x in outputs["cls_logits"]]
        bbox = [self.loss_bbox(x[sample, query], target, weight, avg_factor=factor) for x in outputs["box_code"]]
        return {"dn.loss_cls": torch.stack(cls).sum(), "dn.loss_bbox": torch.stack(bbox).sum()}
