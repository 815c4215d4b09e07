"""Boxes of dense 2D heads: raw regression values to px and back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bev.geometry.boxes2d import to_center_size, to_corners
from bev.models.priors import Priors
from bev.registry import MODELS


class ImageBoxCoder(nn.Module, ABC):
    """What a head's regression values mean.

    Attributes:
        channels: values of a prior.
    """

    channels = 4

    @abstractmethod
    def decode(self, priors: Priors, values: Tensor) -> Tensor:
        """(..., P, channels) -> (..., P, 4) corners, px."""

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        """(P, 4) corners, px, of each prior's box -> (P, channels) regression targets."""
        raise NotImplementedError(f"{type(self).__name__} is taught through its decoded boxes")


@MODELS.register_module()
class DeltaBoxCoder(ImageBoxCoder):
    """Shift in anchor sizes and logarithm of the size ratio (R-CNN, CVPR 2014).

    Args:
        stds: the values are divided by these.
        largest_ratio: of sizes, that is decoded.
    """

    stds: Tensor

    def __init__(
        self, stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0), largest_ratio: float = 1000 / 16
    ) -> None:
        super().__init__()
        self.register_buffer("stds", torch.tensor(stds, dtype=torch.float32), persistent=False)
        self.largest_log = math.log(largest_ratio)

    def decode(self, priors: Priors, values: Tensor) -> Tensor:
        shift, log_ratio = (values * self.stds).split(2, -1)
        anchor = priors.xyxy_px
        center, size = (anchor[:, :2] + anchor[:, 2:]) * 0.5, anchor[:, 2:] - anchor[:, :2]
        half = size * log_ratio.clamp(-self.largest_log, self.largest_log).exp() * 0.5
        center = center + size * shift
        return torch.cat([center - half, center + half], -1)

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        anchor, target = to_center_size(priors.xyxy_px), to_center_size(boxes)
        shift = (target[:, :2] - anchor[:, :2]) / anchor[:, 2:]
        return torch.cat([shift, (target[:, 2:] / anchor[:, 2:]).log()], -1) / self.stds


@MODELS.register_module()
class DistanceBoxCoder(ImageBoxCoder):
    """Distances, px, from the prior's centre to left, top, right and bottom (FCOS, ICCV 2019)."""

    def decode(self, priors: Priors, values: Tensor) -> Tensor:
        return torch.cat([priors.center_px - values[..., :2], priors.center_px + values[..., 2:]], -1)

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        return torch.cat([priors.center_px - boxes[:, :2], boxes[:, 2:] - priors.center_px], -1)


@MODELS.register_module()
class DistributionBoxCoder(ImageBoxCoder):
    """Each distance, in strides, as a distribution over the whole numbers 0 to ``reg_max`` (GFL, NeurIPS 2020)."""

    whole: Tensor

    def __init__(self, reg_max: int = 16) -> None:
        super().__init__()
        self.reg_max, self.channels = reg_max, 4 * (reg_max + 1)
        self.register_buffer("whole", torch.arange(reg_max + 1, dtype=torch.float32), persistent=False)

    def decode(self, priors: Priors, values: Tensor) -> Tensor:
        mean = values.unflatten(-1, (4, -1)).softmax(-1) @ self.whole.to(values.dtype)
        distance = mean * priors.stride_px[:, None]
        return torch.cat([priors.center_px - distance[..., :2], priors.center_px + distance[..., 2:]], -1)

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        """(P, 4) distances in strides, at most a tenth below ``reg_max``."""
        distance = torch.cat([priors.center_px - boxes[:, :2], boxes[:, 2:] - priors.center_px], -1)
        return (distance / priors.stride_px[:, None]).clamp(0, self.reg_max - 0.1)


@MODELS.register_module()
class StrideBoxCoder(ImageBoxCoder):
    """Centre and logarithm of the size, in strides, from the prior's point (YOLOX, arXiv 2107.08430)."""

    def decode(self, priors: Priors, values: Tensor) -> Tensor:
        stride = priors.stride_px[:, None]
        center = values[..., :2] * stride + priors.xyxy_px[:, :2]
        return to_corners(torch.cat([center, values[..., 2:].exp() * stride], -1))

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        target, stride = to_center_size(boxes), priors.stride_px[:, None]
        return torch.cat([(target[:, :2] - priors.xyxy_px[:, :2]) / stride, (target[:, 2:] / stride + 1e-8).log()], -1)


@MODELS.register_module()
class CornerBoxCoder(ImageBoxCoder):
    """Corners in strides from the image's corner (TOOD, whose head moves whole boxes)."""

    def decode(self, priors: Priors, values: Tensor) -> Tensor:
        return values * priors.stride_px[:, None]


@MODELS.register_module()
class CellBoxCoder(ImageBoxCoder):
    """Centre within the anchor's cell and size in anchors (YOLOv2, v3).

    Values are logits of the centre's place in its cell and logarithms of the size ratio; targets are the place itself,
    between 0 and 1, and the logarithm.
    """

    def decode(self, priors: Priors, values: Tensor) -> Tensor:
        center = priors.center_px + (values[..., :2].sigmoid() - 0.5) * priors.stride_px[:, None]
        half = (priors.xyxy_px[:, 2:] - priors.xyxy_px[:, :2]) * 0.5 * values[..., 2:].exp()
        return torch.cat([center - half, center + half], -1)

    def encode(self, priors: Priors, boxes: Tensor) -> Tensor:
        anchor, target = to_center_size(priors.xyxy_px), to_center_size(boxes)
        place = (target[:, :2] - anchor[:, :2]) / priors.stride_px[:, None] + 0.5
        ratio = (target[:, 2:] / anchor[:, 2:]).clamp(min=1e-6)
        return torch.cat([place.clamp(1e-6, 1 - 1e-6), ratio.log()], -1)


@MODELS.register_module()
class RatioBoxCoder(ImageBoxCoder):
    """Centre from half a cell outside the anchor's cell, size up to four times the anchor's (YOLOv5, YOLOv7).

    ``xy = (2 sigmoid - 0.5 + cell) stride`` and ``wh = (2 sigmoid)^2 anchor``.
    """

    def decode(self, priors: Priors, values: Tensor) -> Tensor:
        place, size = (2 * values.sigmoid()).split(2, -1)
        center = priors.center_px + (place - 1) * priors.stride_px[:, None]
        half = (priors.xyxy_px[:, 2:] - priors.xyxy_px[:, :2]) * 0.5 * size.square()
        return torch.cat([center - half, center + half], -1)
