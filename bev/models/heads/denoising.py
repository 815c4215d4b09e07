"""Denoising queries: noised ground truth that a decoder learns to restore, with no matching to wait for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bev.geometry.rays import ray, rotate
from bev.registry import MODELS
from bev.structures import Boxes3D


@dataclass(frozen=True)
class NoisyQueries:
    """Queries of one batch, padded to the same number R a frame.

    Attributes:
        point_m: (B, R, 3) noised centres.
        label: (B, R) class shown to the decoder, some wrong.
        box: (B, R) int64 ground truth that a query restores; -1 for background (too much noise, or padding).
        mask: (R, R) bool, True between queries of different groups.
        groups: copies of the ground truth.
    """

    point_m: Tensor
    label: Tensor
    box: Tensor
    mask: Tensor
    groups: int

    def attention_mask(self, others: int) -> Tensor:
        """(R + others, R + others) bool, True where a query must not attend: the other queries never see noisy ones."""
        noisy = len(self.mask)
        mask = torch.zeros(noisy + others, noisy + others, dtype=torch.bool, device=self.mask.device)
        mask[:noisy, :noisy] = self.mask
        mask[noisy:, :noisy] = True
        return mask


@MODELS.register_module()
class Denoising:
    """Contrastive denoising (DN-DETR, arXiv 2203.01305; DINO, arXiv 2203.03605) in three dimensions.

    A group holds every box once with noise that must be undone and once with more noise, which must be refused.

    Args:
        num_queries: about how many a frame: as many groups as fit, at least one.
        center_share: noise along and across the ray, uniform up to this share of the range (height: of it, in m per
            10 m of range). Refused queries get one to two times as much.
        label_flip: share of wrong classes.
    """

    def __init__(self, num_queries: int = 200, center_share: float = 0.06, label_flip: float = 0.2) -> None:
        self.num_queries, self.center_share, self.label_flip = num_queries, center_share, label_flip

    def draw(self, boxes: Sequence[Boxes3D], num_classes: int) -> NoisyQueries | None:
        """Noise the ground truth of B frames; None where no frame has any. Uses torch's global random generator."""
        size = max(len(b) for b in boxes)
        if size == 0:
            return None
        groups = max(self.num_queries // (2 * size), 1)
        frames = [self._frame(b, (groups, 2, size), num_classes) for b in boxes]
        group = torch.arange(2 * size * groups, device=boxes[0].label.device) // (2 * size)
        point_m, label, box = (torch.stack(parts) for parts in zip(*frames))
        return NoisyQueries(point_m, label, box, group[:, None] != group[None], groups)

    def _frame(self, boxes: Boxes3D, shape: tuple[int, int, int], num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
        count, size, device = len(boxes), shape[-1], boxes.label.device
        center = torch.zeros(size, 3, device=device)
        center[:count] = boxes.center_m
        label, box = torch.zeros(shape, dtype=torch.long, device=device), torch.full(shape, -1, device=device)
        label[..., :count] = boxes.label
        box[:, 0, :count] = torch.arange(count, device=device)
        flipped = torch.rand(shape, device=device) < self.label_flip
        label = torch.where(flipped, torch.randint(num_classes, shape, device=device), label)
        return self._noised(center.expand(*shape, 3)).flatten(0, 2), label.flatten(), box.flatten()

    def _noised(self, center: Tensor) -> Tensor:
        """(groups, 2, M, 3) centres; index 0 of the second axis gets noise to undo, 1 noise to refuse."""
        noise = torch.rand_like(center) * 2 - 1
        # Refused: pushed outwards along one random axis of the horizontal plane by one to two times the range.
        far = torch.randint(2, noise.shape[:-1], device=noise.device)
        outward = noise.gather(-1, far.unsqueeze(-1))
        pushed = noise.scatter(-1, far.unsqueeze(-1), outward + torch.where(outward < 0, -1.0, 1.0))
        refused = torch.tensor([False, True], device=noise.device)[:, None, None]
        noise = torch.where(refused, pushed, noise)
        direction, range_m = ray(center)
        scale = (self.center_share * range_m).unsqueeze(-1)
        step = torch.cat([rotate(noise[..., :2] * scale, direction), noise[..., 2:] * scale * 0.2], -1)
        return center + step
