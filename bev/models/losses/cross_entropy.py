"""Cross entropies over class indices and over probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.losses.reduction import PairLoss, Reduction, reduce_loss
from bev.registry import MODELS


@MODELS.register_module()
class BinaryCrossEntropyLoss(PairLoss):
    """Logits (M, K) against probabilities (M, K), element by element, in float32 even under autocast.

    Args:
        loss_weight, reduction: as in :class:`PairLoss`.
        class_weight: factor of each of the K columns; None for one.
        label_smoothing: targets t become ``t (1 - s) + s / 2`` (Szegedy et al., CVPR 2016, for two outcomes).
    """

    class_weight: Tensor | None

    def __init__(
        self,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
        class_weight: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(loss_weight, reduction)
        weights = None if class_weight is None else torch.tensor(list(class_weight), dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)
        self.label_smoothing = label_smoothing

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.label_smoothing:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        found = F.binary_cross_entropy_with_logits(full_precision(prediction), target, reduction="none")
        return found if self.class_weight is None else found * self.class_weight


@MODELS.register_module()
class CrossEntropyLoss(nn.Module):
    """Softmax cross entropy over class indices.

    Args:
        class_weight: factor of each class's samples; None for one.
        label_smoothing: share of a target's mass that is spread evenly over all classes (Szegedy et al., CVPR 2016).
        loss_weight: factor of the result.
        reduction: of :meth:`forward`.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        class_weight: list[float] | None = None,
        label_smoothing: float = 0.0,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        weights = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)
        self.label_smoothing, self.loss_weight, self.reduction = label_smoothing, loss_weight, reduction

    def elements(self, logits: Tensor, target: Tensor) -> Tensor:
        """(M,) losses."""
        options = {"reduction": "none", "label_smoothing": self.label_smoothing}
        return F.cross_entropy(full_precision(logits), target, self.class_weight, **options)  # type: ignore[arg-type]

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
    ) -> Tensor:
        """Loss of (M, C) logits against (M,) int64 classes.

        Args:
            weight: (M,).
            avg_factor: what the sum is divided by. A mean without it is over all M, whatever their weights.
        """
        return self.loss_weight * reduce_loss(self.elements(logits, target), weight, self.reduction, avg_factor)


@MODELS.register_module()
class SigmoidCrossEntropyLoss(CrossEntropyLoss):
    """Binary cross entropies of all classes over class indices, the number of classes meaning background (the RPN's).

    Args:
        loss_weight, reduction: as in :class:`CrossEntropyLoss`.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(None, 0.0, loss_weight, reduction)

    def elements(self, logits: Tensor, target: Tensor) -> Tensor:
        """(M, C) losses."""
        logits = full_precision(logits)
        wanted = one_hot_rows(target, logits.shape[1], logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


@MODELS.register_module()
class SymmetricCrossEntropyLoss(CrossEntropyLoss):
    """Cross entropy and its reverse, robust against wrong labels (Wang et al., ICCV 2019).

    Args:
        alpha: weight of the cross entropy.
        beta: weight of the reverse one, which reads the one-hot target's zeros as ``least_target``.
        loss_weight, reduction: as in :class:`CrossEntropyLoss`.
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 1.0,
        least_target: float = 1e-4,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(None, 0.0, loss_weight, reduction)
        self.alpha, self.beta, self.least_target = alpha, beta, least_target

    def elements(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = full_precision(logits)
        probability = logits.softmax(-1).clamp(min=1e-7, max=1.0)
        one_hot = F.one_hot(target, logits.shape[1]).to(logits.dtype).clamp(min=self.least_target)
        reverse = -(probability * one_hot.log()).sum(-1)
        return self.alpha * F.cross_entropy(logits, target, reduction="none") + self.beta * reverse


def full_precision(logits: Tensor) -> Tensor:
    """Half precision numbers as float32, others as they are."""
    return logits if logits.element_size() >= 4 else logits.float()


def one_hot_rows(target: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """(M,) classes, ``num_classes`` meaning background -> (M, num_classes) zeros and ones."""
    return F.one_hot(target, num_classes + 1)[:, :-1].to(dtype)
