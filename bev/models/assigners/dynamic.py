"""Assigners that give each box a number of priors of its own: SimOTA and RTMDet's soft labels."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.geometry.boxes2d import contains, pairwise_overlap
from bev.models.assigners.assignment import BACKGROUND, Assignment, match_dynamically, nothing_assigned
from bev.models.assigners.ratio import RatioAssigner
from bev.models.priors import Priors
from bev.registry import MODELS

# Factor of the negatives in the published varifocal loss; their exponent is 2.
_NEGATIVE_SHARE = 0.75


def _scatter(count: int, candidate: Tensor, taken: Tensor, iou: Tensor, metric: bool) -> Assignment:
    """(K, M) choice among candidate priors (K,) -> all of them."""
    has_box = taken.any(1)
    rows, box_of = candidate[has_box], taken[has_box].to(torch.uint8).argmax(1)
    own = iou[has_box].gather(1, box_of[:, None])[:, 0]
    box = torch.full((count,), BACKGROUND, device=iou.device).index_copy(0, rows, box_of)
    overlap = iou.new_full((count,), -torch.inf).index_copy(0, rows, own)
    return Assignment(box, overlap, torch.where(box >= 0, overlap, 0.0) if metric else None)


@MODELS.register_module()
class SimOTAAssigner:
    """The cheapest priors of each box, as many as its best IoUs sum to (YOLOX, arXiv 2107.08430).

    The cost is the class's binary cross entropy of the score's root plus ``iou_weight`` times -ln(IoU) plus
    ``penalty`` for priors that are not both in the box and near its centre; all in float32. PicoDet (arXiv 2111.00902,
    equation 1) takes the varifocal loss with the IoU as its target and ``iou_weight`` times 1 - GIoU.

    Args:
        center_radius: half the side of the region around a centre, strides.
        candidates: ``"union"`` of all boxes and centre regions (the 2021 release), or of ``"center"`` regions alone
            (today's), where being in the box does not matter.
        topk: number of IoUs that are summed.
        cls_weight, iou_weight: of the costs.
        penalty: 1e5 in the 2021 release and mmdet, 1e6 today.
        root: take the root of the scores, since they are products of two probabilities (YOLOX).
        cost: ``"entropy"``, or ``"varifocal"`` as PicoDet has it (with an ``iou_weight`` of 6).

    Raises:
        ValueError: unknown candidates or cost.
    """

    def __init__(
        self,
        center_radius: float = 2.5,
        candidates: Literal["union", "center"] = "union",
        topk: int = 10,
        cls_weight: float = 1.0,
        iou_weight: float = 3.0,
        penalty: float = 1e5,
        root: bool = True,
        cost: Literal["entropy", "varifocal"] = "entropy",
    ) -> None:
        if candidates not in ("union", "center"):
            raise ValueError(f"SimOTAAssigner candidates {candidates!r} is neither 'union' nor 'center'")
        if cost not in ("entropy", "varifocal"):
            raise ValueError(f"SimOTAAssigner cost {cost!r} is neither 'entropy' nor 'varifocal'")
        self.center_radius, self.candidates, self.topk = center_radius, candidates, topk
        self.cls_weight, self.iou_weight, self.penalty = cls_weight, iou_weight, penalty
        self.root, self.cost = root, cost

    @torch.no_grad()
    def assign(self, priors: Priors, boxes: Tensor, label: Tensor, scores: Tensor, decoded: Tensor) -> Assignment:
        """Assign P priors.

        Args:
            boxes, label: (M, 4) px and (M,) int64 ground truth.
            scores: (P, C) probabilities, class times objectness.
            decoded: (P, 4) px predicted boxes.
        """
        valid, central = self._regions(priors, boxes)
        candidate = valid.nonzero().flatten()
        if not len(boxes) or not len(candidate):
            return nothing_assigned(len(priors), boxes.device)
        iou = pairwise_overlap(decoded[candidate], boxes)
        scores = scores[candidate].sqrt() if self.root else scores[candidate]
        if self.cost == "varifocal":
            classes, apart = varifocal_cost(scores, label, iou), 1 - pairwise_overlap(decoded[candidate], boxes, "giou")
        else:
            classes, apart = _class_cost(scores, label), -(iou + 1e-7).log()
        cost = self.cls_weight * classes + self.iou_weight * apart
        taken, _ = match_dynamically(cost + self.penalty * ~central[candidate], iou, self.topk)
        return _scatter(len(priors), candidate, taken, iou, metric=False)

    def _regions(self, priors: Priors, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(P,) candidates, and (P, M) where no penalty falls."""
        reach = self.center_radius * priors.stride_px[:, None]
        apart = (priors.center_px[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(-1)
        near = apart < reach
        if self.candidates == "center":
            return near.any(1), near
        inside = contains(boxes, priors.center_px) > 0
        return (inside | near).any(1), inside & near


@MODELS.register_module()
class RatioSimOTAAssigner(SimOTAAssigner):
    """SimOTA among the anchors of like shape in a box's cell and its neighbours (YOLOv7, arXiv 2207.02696).

    An anchor that is a candidate of one box competes for every box of the picture; one anchor answers for one box.

    Args:
        ratio, reach: as of :class:`RatioAssigner`; published reach: 0.5 for the lead head (up to 3 cells a box), 1.0
            for the auxiliary one (up to 5).
        topk: number of IoUs that are summed: 10, or 20 in the published training with an auxiliary head.
        cls_weight, iou_weight: of the costs.
    """

    def __init__(
        self, ratio: float = 4.0, reach: float = 0.5, topk: int = 10, cls_weight: float = 1.0, iou_weight: float = 3.0
    ) -> None:
        super().__init__(topk=topk, cls_weight=cls_weight, iou_weight=iou_weight, penalty=0.0)
        self.near = RatioAssigner(ratio, reach)

    def _regions(self, priors: Priors, boxes: Tensor) -> tuple[Tensor, Tensor]:
        candidates = self.near.candidates(priors, boxes)
        return candidates.any(1), torch.ones_like(candidates)


def _class_cost(scores: Tensor, label: Tensor) -> Tensor:
    """(K, C) probabilities, (M,) -> (K, M) binary cross entropy with the one-hot class, summed over the classes."""
    with torch.autocast(scores.device.type, enabled=False):
        scores = scores.float()
        absent = -(1 - scores).log().clamp(min=-100)  # binary_cross_entropy's own bound
        present = -scores.log().clamp(min=-100)
        return absent.sum(1, keepdim=True) + (present - absent)[:, label]


def varifocal_cost(scores: Tensor, label: Tensor, iou: Tensor) -> Tensor:
    """(K, C) probabilities, (M,), (K, M) -> (K, M) varifocal loss of the IoU in the box's class, over all classes."""
    with torch.autocast(scores.device.type, enabled=False):
        scores, iou = scores.float(), iou.float()
        rest, own = (1 - scores).log().clamp(min=-100), scores.log().clamp(min=-100)
        absent = -_NEGATIVE_SHARE * scores.square() * rest
        present = -iou * (iou * own[:, label] + (1 - iou) * rest[:, label])
        return absent.sum(1, keepdim=True) - absent[:, label] + torch.where(iou > 0, present, absent[:, label])


@MODELS.register_module()
class DynamicSoftLabelAssigner:
    """SimOTA with soft labels and a soft centre prior (RTMDet, arXiv 2212.07784, section 3.3).

    Args:
        topk: number of IoUs that are summed.
        iou_weight: of the -ln(IoU) cost.
        soft_center_radius: distance from a box's centre, strides, at which the centre cost is 1; it grows tenfold with
            every further stride.
    """

    def __init__(self, topk: int = 13, iou_weight: float = 3.0, soft_center_radius: float = 3.0) -> None:
        self.topk, self.iou_weight, self.soft_center_radius = topk, iou_weight, soft_center_radius

    @torch.no_grad()
    def assign(self, priors: Priors, boxes: Tensor, label: Tensor, scores: Tensor, decoded: Tensor) -> Assignment:
        """Assign P priors.

        Args:
            boxes, label: (M, 4) px and (M,) int64 ground truth.
            scores: (P, C) logits.
            decoded: (P, 4) px predicted boxes.
        """
        candidate = (contains(boxes, priors.center_px) > 0).any(1).nonzero().flatten()
        if not len(boxes) or not len(candidate):
            return nothing_assigned(len(priors), boxes.device, metric=True)
        near = priors[candidate]
        distance = (near.center_px[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).square().sum(-1).sqrt()
        center_cost = torch.pow(10, distance / near.stride_px[:, None] - self.soft_center_radius)
        iou = pairwise_overlap(decoded[candidate], boxes)
        cost = self._class_cost(scores[candidate], label, iou) - self.iou_weight * (iou + 1e-7).log() + center_cost
        taken, _ = match_dynamically(cost, iou, self.topk)
        return _scatter(len(priors), candidate, taken, iou, metric=True)

    @staticmethod
    def _class_cost(logits: Tensor, label: Tensor, iou: Tensor) -> Tensor:
        """(K, M) quality focal loss of each prior as if it answered for each box, summed over the classes."""
        target = F.one_hot(label, logits.shape[1]).to(logits.dtype) * iou[..., None]
        spread = logits[:, None].expand_as(target)
        entropy = F.binary_cross_entropy_with_logits(spread, target, reduction="none")
        return (entropy * (target - spread.sigmoid()).abs().square()).sum(-1)
