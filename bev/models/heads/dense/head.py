"""The dense head: its parts say which detector it is."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bev.models.coders.image_boxes import ImageBoxCoder
from bev.models.heads.dense.common import Maps
from bev.models.heads.dense.criterion import Criterion
from bev.models.heads.dense.decoder import DenseDecoder
from bev.models.heads.dense.predictions import DensePredictions, ScoreForm, gather_predictions
from bev.models.priors import PriorGenerator
from bev.registry import MODELS
from bev.structures import Boxes2D


@MODELS.register_module()
class DenseHead(nn.Module):
    """Scores and boxes at every prior of every level.

    Args:
        network: levels -> raw maps ``cls``, ``box`` and perhaps ``quality``.
        priors: where it predicts.
        box_coder: what its box values mean.
        criterion: assigns the ground truth and gives the losses.
        decoder: chooses the final boxes.
        score_form: what its class values are: logits of a ``sigmoid`` or of a ``softmax`` with background, or a
            ``probability``.
    """

    def __init__(
        self,
        network: nn.Module,
        priors: PriorGenerator,
        box_coder: ImageBoxCoder,
        criterion: Criterion,
        decoder: DenseDecoder,
        score_form: ScoreForm = "sigmoid",
    ) -> None:
        super().__init__()
        self.network, self.priors, self.box_coder = network, priors, box_coder
        self.criterion, self.decoder, self.score_form = criterion, decoder, score_form

    def forward(self, features: Sequence[Tensor]) -> Maps:
        """Levels (B, C_l, H_l, W_l) -> raw maps; what is exported."""
        maps: Maps = self.network(features)
        return maps

    def predictions(self, maps: Maps) -> DensePredictions:
        """Raw maps as one list of predictions an image."""
        sizes = [(int(x.shape[2]), int(x.shape[3])) for x in maps["cls"]]
        priors = self.priors(sizes, maps["cls"][0].device)
        return gather_predictions(maps, priors, self.priors.per_cell, self.box_coder, self.score_form)

    def loss(self, maps: Maps, truth: Sequence[Boxes2D]) -> dict[str, Tensor]:
        """Scalar loss terms by name; their sum is minimised.

        Args:
            truth: of every image, network px; labels below the number of classes.
        """
        losses: dict[str, Tensor] = self.criterion(self.predictions(maps), truth)
        return losses

    def predict(self, maps: Maps, sizes_px: Sequence[tuple[float, float]]) -> list[Boxes2D]:
        """Boxes of every image, network px, by falling score; ``sizes_px`` (H, W) of the pictures without padding."""
        return self.decoder(self.predictions(maps), sizes_px)
