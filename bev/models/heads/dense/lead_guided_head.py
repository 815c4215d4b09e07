"""A coarse head taught by what the lead head predicts (YOLOv7, arXiv 2207.02696, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.assigners import SimOTAAssigner
from bev.models.heads.dense.common import Maps
from bev.models.heads.dense.head import DenseHead
from bev.models.heads.dense.ratio_criterion import RatioCriterion
from bev.models.heads.dense.taught_head import TaughtHead
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class LeadGuidedHead(TaughtHead):
    """The lead head learns from its own fine assignment; the auxiliary one from a coarser assignment of more cells.

    Both assignments are made from the lead head's predictions, which guide the coarse head so.

    Args:
        head: the lead head; its criterion is a :class:`RatioCriterion` with a dynamic assigner.
        auxiliary: network of the coarse head; same priors and coder as the lead head; left out of inference and
            export.
        assigner: of the coarse head (published: reach 1.0).
        weight: of the coarse head's terms (published: 0.25).

    Raises:
        ValueError: a lead head with another criterion.
    """

    def __init__(
        self, head: DenseHead, auxiliary: nn.Module, assigner: SimOTAAssigner, weight: float = 0.25
    ) -> None:
        super().__init__(head, "auxiliary_")
        if not isinstance(head.criterion, RatioCriterion) or not isinstance(head.criterion.assigner, SimOTAAssigner):
            raise ValueError("LeadGuidedHead needs a lead head with a RatioCriterion and a RatioSimOTAAssigner")
        self.auxiliary, self.weight = auxiliary, weight
        self.coarse = RatioCriterion(
            assigner,
            weight * head.criterion.weight_bbox,
            weight * head.criterion.weight_obj,
            weight * head.criterion.weight_cls,
            head.criterion.balance,
            head.criterion.smoothing,
        )

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, C_l, H_l, W_l) -> raw maps of the lead head; in training also ``auxiliary_*``.

        Where the neck gives twice as many levels as the head has strides, the coarse head sees the second half (the
        top-down way's, before the bottom-up one).
        """
        count = len(self.head.priors.strides)
        maps: Maps = self.head(features[:count])
        return {**maps, **self.named(self.auxiliary(features[-count:]))} if self.training else maps

    def loss(self, maps: Maps, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """Terms of both heads, those of the coarse one as ``auxiliary_*``; maps as made in training."""
        own, coarse = self.parted(maps)
        lead = self.head.predictions(own)
        criterion = self.head.criterion
        assert isinstance(criterion, RatioCriterion)
        losses = criterion(lead, truth)
        pairs = self.coarse.pairs(lead, truth)
        taught = self.coarse.terms(self.head.predictions(coarse), pairs, len(truth))
        return {**losses, **{f"{self.prefix}{name}": term for name, term in taught.items()}}
