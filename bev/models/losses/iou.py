"""Losses of boxes by their overlap with the target. All take (M, 4) corners in px and give (M,) elements."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from bev.geometry.boxes2d import box_area, overlap, to_center_size
from bev.models.losses.l1 import smooth_l1
from bev.models.losses.reduction import PairLoss, Reduction
from bev.registry import MODELS


class _OverlapLoss(PairLoss):
    """A :class:`PairLoss` over boxes; ``eps`` keeps its denominators from zero."""

    eps: float

    def __init__(self, eps: float = 1e-6, loss_weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(loss_weight, reduction)
        self.eps = eps


@MODELS.register_module()
class IoULoss(_OverlapLoss):
    """A falling function of the IoU (UnitBox, arXiv 1608.01471, for ``log``).

    Args:
        mode: ``log`` -ln(IoU); ``linear`` 1 - IoU; ``square`` 1 - IoU^2 (YOLOX).
        eps: least IoU.
        loss_weight, reduction: as in :class:`PairLoss`.
    """

    def __init__(
        self,
        mode: Literal["log", "linear", "square"] = "log",
        eps: float = 1e-6,
        loss_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(eps, loss_weight, reduction)
        if mode not in ("log", "linear", "square"):
            raise ValueError(f"IoULoss mode {mode!r} is not one of log, linear, square")
        self.mode = mode

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        iou = overlap(prediction, target).clamp(min=self.eps)
        return {"log": lambda: -iou.log(), "linear": lambda: 1 - iou, "square": lambda: 1 - iou.square()}[self.mode]()


@MODELS.register_module()
class GIoULoss(_OverlapLoss):
    """1 - GIoU (Rezatofighi et al., CVPR 2019)."""

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 1 - overlap(prediction, target, "giou", self.eps)


@MODELS.register_module()
class DIoULoss(_OverlapLoss):
    """1 - IoU + squared centre distance over squared diagonal of the hull (Zheng et al., AAAI 2020)."""

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 1 - _iou(prediction, target, self.eps) + _center_term(prediction, target, self.eps)


@MODELS.register_module()
class CIoULoss(_OverlapLoss):
    """DIoU and the difference of aspect ratios (Zheng et al., AAAI 2020), at most 2.

    The weight alpha = v / (1 - IoU + v) of the aspect term is a constant to the gradient and, as in mmdet, 0 below an
    IoU of one half. Identical boxes cost 0 (published code divides 0 by 0 there).
    """

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        iou = _iou(prediction, target, self.eps)
        aspect = 4 / math.pi**2 * (_angle(target, self.eps) - _angle(prediction, self.eps)).square()
        with torch.no_grad():
            alpha = (iou > 0.5) * aspect / (1 - iou + aspect).clamp(min=self.eps)
        similarity = iou - _center_term(prediction, target, self.eps) - alpha * aspect
        return 1 - similarity.clamp(-1, 1)


@MODELS.register_module()
class EIoULoss(_OverlapLoss):
    """DIoU and the differences of width and height over those of the hull (Focal-EIoU, arXiv 2101.08158)."""

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        difference = to_center_size(prediction)[..., 2:] - to_center_size(target)[..., 2:]
        sides = (difference.square() / (_hull(prediction, target).square() + self.eps)).sum(-1)
        return 1 - _iou(prediction, target, self.eps) + _center_term(prediction, target, self.eps) + sides


@MODELS.register_module()
class ExtendedIoULoss(_OverlapLoss):
    """Smooth L1 of one minus an IoU that goes on below zero for disjoint boxes (Peng & Yu, arXiv 2112.05969).

    mmdet 3 has it under the name ``EIoULoss``.

    Args:
        smooth_point: where the quadratic part begins.
        eps, loss_weight, reduction: as in the other losses.
    """

    def __init__(
        self, smooth_point: float = 0.1, eps: float = 1e-6, loss_weight: float = 1.0, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(eps, loss_weight, reduction)
        self.smooth_point = smooth_point

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(..., 4) corners twice -> (...), from 0 (equal) on; beyond 1 for disjoint boxes."""
        hull_low = torch.min(prediction[..., :2], target[..., :2])
        low = torch.max(prediction[..., :2], target[..., :2])
        high = torch.min(prediction[..., 2:], target[..., 2:])
        near, far = torch.min(low, high) - hull_low, torch.max(low, high) - hull_low
        low, high = low - hull_low, high - hull_low
        shared = high.prod(-1) + near.prod(-1) - low[..., 0] * far[..., 1] - far[..., 0] * low[..., 1]
        union = box_area(prediction) + box_area(target) - shared + self.eps
        return smooth_l1(1 - shared / union, self.smooth_point)


@MODELS.register_module()
class SIoULoss(_OverlapLoss):
    """IoU with angle, distance and shape costs (Gevorgyan, arXiv 2205.12740).

    Args:
        neg_gamma: take the sign of the distance cost's exponent as the paper has it; False is mmdet's.
        eps, loss_weight, reduction: as in the other losses.
    """

    def __init__(
        self, neg_gamma: bool = False, eps: float = 1e-6, loss_weight: float = 1.0, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(eps, loss_weight, reduction)
        self.neg_gamma = neg_gamma

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """(..., 4) corners twice -> (...) in [0, 2]."""
        first, second = to_center_size(prediction), to_center_size(target)
        apart = second[..., :2] - first[..., :2] + self.eps
        sine = (apart.abs() / apart.square().sum(-1, keepdim=True).sqrt()).unbind(-1)
        sine_alpha = torch.where(sine[0] > math.sqrt(0.5), sine[1], sine[0])
        angle = torch.cos(2 * torch.asin(sine_alpha) - math.pi / 2)
        gamma = (angle - 2 if self.neg_gamma else 2 - angle)[..., None]
        share = (apart / _hull(prediction, target).clamp(min=self.eps)).square()
        distance = (1 - torch.exp(gamma * share)).sum(-1)
        sizes = first[..., 2:], second[..., 2:]
        unlike = (sizes[0] - sizes[1]).abs() / torch.max(*sizes).clamp(min=self.eps)
        shape = (1 - torch.exp(-unlike)).pow(4).sum(-1)
        similarity = _iou(prediction, target, self.eps) - 0.5 * (distance + shape)
        return 1 - similarity.clamp(-1, 1)


@MODELS.register_module()
class BoundedIoULoss(_OverlapLoss):
    """Smooth L1 of an upper bound of the IoU for each coordinate alone (Tychsen-Smith & Petersson, CVPR 2018).

    Elements are (M, 4): centre x, centre y, width, height.

    Args:
        beta: where the quadratic part ends.
        eps, loss_weight, reduction: as in the other losses.
    """

    def __init__(
        self, beta: float = 0.2, eps: float = 1e-3, loss_weight: float = 1.0, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(eps, loss_weight, reduction)
        self.beta = beta

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        (center, size), (center_t, size_t) = (to_center_size(x).split(2, -1) for x in (prediction, target.detach()))
        away = 2 * (center_t - center).abs()
        loss_center = 1 - ((size_t - away) / (size_t + away + self.eps)).clamp(min=0)
        loss_size = 1 - torch.min(size_t / (size + self.eps), size / (size_t + self.eps))
        return smooth_l1(torch.cat([loss_center, loss_size], -1), self.beta)


def _iou(prediction: Tensor, target: Tensor, eps: float) -> Tensor:
    """IoU whose union has ``eps`` added instead of a lower bound, as DIoU's family is published."""
    low = torch.max(prediction[..., :2], target[..., :2])
    shared = (torch.min(prediction[..., 2:], target[..., 2:]) - low).clamp(min=0).prod(-1)
    return shared / (box_area(prediction) + box_area(target) - shared + eps)


def _hull(prediction: Tensor, target: Tensor) -> Tensor:
    """(M, 2) width and height of the smallest box around both."""
    high = torch.max(prediction[..., 2:], target[..., 2:])
    return (high - torch.min(prediction[..., :2], target[..., :2])).clamp(min=0)


def _center_term(prediction: Tensor, target: Tensor, eps: float) -> Tensor:
    """(M,) squared distance of the centres over the squared diagonal of the hull."""
    apart = to_center_size(prediction)[..., :2] - to_center_size(target)[..., :2]
    return apart.square().sum(-1) / (_hull(prediction, target).square().sum(-1) + eps)


def _angle(xyxy: Tensor, eps: float) -> Tensor:
    """(M,) rad, arctangent of width over height."""
    width, height = (xyxy[..., 2:] - xyxy[..., :2]).unbind(-1)
    return torch.atan(width / (height + eps))
