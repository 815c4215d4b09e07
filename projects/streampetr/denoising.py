"""StreamPETR's denoising queries: noised ground truth that the decoder restores beside the frame's own queries."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bev.models.heads.denoising import NoisyQueries
from bev.registry import MODELS
from bev.structures import Boxes3D


@MODELS.register_module()
class BoxDenoising:
    """Denoising of PETRv2 and StreamPETR (DN-DETR, arXiv 2203.01305, in three dimensions).

    Every group holds every box once. A centre moves along each axis of the reference frame by a uniform share of half
    the box's length, width and height; where the three shares' norm exceeds ``split`` the query must say "background".
    All copies, refused ones too, are taught the box, as published. Queries carry no label.

    Args:
        groups: copies of the ground truth a frame.
        noise_scale: factor of the noise; 1 reaches the box's faces.
        split: norm of the three shares up to which a query keeps its class.
        loss_weight: of the denoising losses.
    """

    def __init__(
        self, groups: int = 10, noise_scale: float = 1.0, split: float = 0.75, loss_weight: float = 1.0
    ) -> None:
        if groups < 1 or not 0 < split or noise_scale < 0:
            raise ValueError(f"groups {groups} and split {split} must be positive, noise_scale {noise_scale} not less")
        self.groups, self.noise_scale, self.split, self.loss_weight = groups, noise_scale, split, loss_weight

    @property
    def kept_share(self) -> float:
        """Share of the noise's cube within the ball of radius ``split``, by which the class loss is normalised."""
        return math.pi / 6 * self.split**3

    def draw(self, boxes: Sequence[Boxes3D], num_classes: int) -> NoisyQueries | None:
        """Noise the ground truth of B frames; None where no frame has any. Uses torch's global random generator.

        ``label`` is what each query must say, ``num_classes`` for background; ``box`` -1 marks padding alone.
        """
        size = max(len(b) for b in boxes)
        if size == 0:
            return None
        frames = [self._frame(b, size, num_classes) for b in boxes]
        group = torch.arange(size * self.groups, device=boxes[0].label.device) // size
        point_m, label, box = (torch.stack(parts) for parts in zip(*frames))
        return NoisyQueries(point_m, label, box, group[:, None] != group[None], self.groups)

    def _frame(self, boxes: Boxes3D, size: int, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
        count, device, shape = len(boxes), boxes.label.device, (self.groups, size)
        point_m = torch.zeros(*shape, 3, device=device)
        label = torch.full(shape, num_classes, device=device)
        box = torch.full(shape, -1, device=device)
        share = torch.rand(self.groups, count, 3, device=device) * 2 - 1
        # As published: the box's own length, width and height along the reference frame's axes, whatever its yaw.
        point_m[:, :count] = boxes.center_m + share * boxes.size_m / 2 * self.noise_scale
        label[:, :count] = torch.where(share.norm(dim=-1) > self.split, num_classes, boxes.label)
        box[:, :count] = torch.arange(count, device=device)
        return point_m.flatten(0, 1), label.flatten(), box.flatten()
