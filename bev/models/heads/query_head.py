"""What every set-prediction head shares: branches on a decoder, matching, losses over all layers, decoding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.models.assigners import HungarianAssigner3D
from bev.models.coders import NMSFreeCoder
from bev.structures import Boxes3D

CODE_SIZE = 10  # of conventions.encode_detr


def class_branch(embed_dim: int, num_classes: int, prior: float = 0.01) -> nn.Sequential:
    """(..., C) -> (..., num_classes) logits that start at ``prior``; names 0, 1, 3, 4, 6 as published."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(embed_dim, embed_dim), nn.LayerNorm(embed_dim), nn.ReLU(inplace=True)]
    last = nn.Linear(embed_dim, num_classes)
    nn.init.constant_(last.bias, -math.log(1 / prior - 1))
    return nn.Sequential(*layers, last)


def box_branch(embed_dim: int) -> nn.Sequential:
    """(..., C) -> (..., 10) raw regression; names 0, 2, 4 as published."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(embed_dim, embed_dim), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(embed_dim, CODE_SIZE))


class QueryHead(nn.Module):
    """Classes and boxes of the queries of a decoder: DETR3D, BEVFormer, PETR and StreamPETR learn by this one code.

    A subclass's ``forward`` returns ``cls_logits`` (layers, B, Q, num_classes) and ``box_code`` (layers, B, Q, 10).

    Args:
        num_queries: Q, of which each may be matched with a box.
        embed_dim: C.
        num_classes: foreground classes.
        num_branches: pairs of branches, one a decoder layer.
        assigner: matches predictions and boxes.
        coder: boxes <-> codes.
        loss_cls, loss_bbox: called with (prediction, target, weight, avg_factor).
        code_weights: weight of each of the 10 entries of the code in ``loss_bbox``.
        shared_branches: one pair of branches under every layer's name, as PETR's checkpoints hold it.
    """

    num_peaks = 0  # queries that begin at peaks of the image heatmaps, see ``query_seeds``
    reads_depth = False  # whether ``forward`` takes the depth distribution of the images

    def __init__(
        self,
        num_queries: int,
        embed_dim: int,
        num_classes: int,
        num_branches: int,
        assigner: HungarianAssigner3D,
        coder: NMSFreeCoder,
        loss_cls: nn.Module,
        loss_bbox: nn.Module,
        code_weights: Sequence[float] = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2),
        shared_branches: bool = False,
    ) -> None:
        super().__init__()
        self.assigner, self.coder = assigner, coder
        self.loss_cls, self.loss_bbox = loss_cls, loss_bbox
        self.num_queries, self.num_classes = num_queries, num_classes
        repeats, different = (num_branches, 1) if shared_branches else (1, num_branches)
        cls_branches = [class_branch(embed_dim, num_classes) for _ in range(different)]
        self.cls_branches = nn.ModuleList(cls_branches * repeats)
        self.reg_branches = nn.ModuleList([box_branch(embed_dim) for _ in range(different)] * repeats)
        # A parameter, untrained, because published checkpoints hold it.
        self.code_weights = nn.Parameter(torch.tensor(code_weights, dtype=torch.float32), requires_grad=False)

    def classify(self, queries: Tensor) -> Tensor:
        """(layers, B, Q, C) -> (layers, B, Q, num_classes) float32 logits."""
        return torch.stack([branch(query) for branch, query in zip(self.cls_branches, queries)]).float()

    @property
    def num_matched(self) -> int:
        """Queries of a frame that may be matched."""
        return self.num_queries + self.num_peaks

    def count_targets(self, boxes: Sequence[Boxes3D]) -> Tensor:
        """Scalar float: pairs that matching will make, over the batch."""
        return torch.tensor(float(sum(min(len(b), self.num_matched) for b in boxes)), device=self.code_weights.device)

    def target_counts(self, boxes: Sequence[Boxes3D]) -> dict[str, Tensor]:
        """What the losses divide by: ``boxes``, see :meth:`count_targets`."""
        return {"boxes": self.count_targets(boxes)}

    def loss(self, outputs: dict[str, Tensor], boxes: Sequence[Boxes3D], avg_factor: Tensor) -> dict[str, Tensor]:
        """Losses of every layer: the last one's plain, the others' under ``d0.``, ``d1.`` ...

        Args:
            outputs: of :meth:`forward`.
            boxes: ground truth, one entry a frame. NaN velocities are unknown and count nothing.
            avg_factor: scalar number of positives to divide by; at least 1 is used.

        A prediction that is not finite gives a loss that is not finite: the published code writes 0 there, which
        hides a divergence from whoever watches the loss.
        """
        targets = [self.coder.encode(b) for b in boxes]
        labels, avg_factor = [b.label for b in boxes], avg_factor.clamp(min=1)
        logits, code = outputs["cls_logits"], outputs["box_code"]
        losses: dict[str, Tensor] = {}
        for layer in range(len(logits)):
            prefix = "" if layer == len(logits) - 1 else f"d{layer}."
            cls, bbox = self._layer_loss(logits[layer], code[layer], labels, targets, avg_factor)
            losses |= {f"{prefix}loss_cls": cls, f"{prefix}loss_bbox": bbox}
        return losses

    def _layer_loss(
        self, logits: Tensor, code: Tensor, labels: Sequence[Tensor], targets: Sequence[Tensor], avg_factor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, Q, num_classes) logits and (B, Q, 10) codes of one layer -> class and box loss."""
        label = torch.full(logits.shape[:2], self.num_classes, dtype=torch.long, device=logits.device)
        predicted, wanted = [], []
        for sample, (sample_labels, target) in enumerate(zip(labels, targets)):
            query, box = self.assigner.assign(logits[sample], code[sample], sample_labels, target)
            label[sample, query] = sample_labels[box]
            predicted.append(code[sample, query])
            wanted.append(target[box])
        target = torch.cat(wanted)
        weight = self.target_weights(target)
        bbox = self.loss_bbox(torch.cat(predicted), target.to(code.dtype), weight, avg_factor=avg_factor)
        return self.loss_cls(logits.flatten(0, 1), label.flatten(), avg_factor=avg_factor), bbox

    def target_weights(self, target: Tensor) -> Tensor:
        """(M, 10) weight of every entry of the targets' codes: 0 where it is not known."""
        return self.code_weights * torch.isfinite(target)

    def decode(self, outputs: dict[str, Tensor]) -> list[Boxes3D]:
        """Boxes of the last layer, one entry a frame, sorted by falling score."""
        return [self.coder.decode(*pair) for pair in zip(outputs["cls_logits"][-1], outputs["box_code"][-1])]
