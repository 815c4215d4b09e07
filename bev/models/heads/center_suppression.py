"""How CenterPoint's heads drop duplicates: by centre distance, or by overlap of rescaled boxes (Scale-NMS)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bev.ops.circle_nms import circle_nms
from bev.ops.rotated_iou import nms_rotated
from bev.registry import MODELS
from bev.structures import Boxes3D


@MODELS.register_module()
class CircleSuppression:
    """Boxes of a task whose centres are near each other; the class does not matter.

    Args:
        squared_radius_m2: two centres are near where their squared distance is at most this. The published
            configurations call it ``min_radius`` and compare it with the square.
        max_boxes: kept a frame and task.
    """

    def __init__(self, squared_radius_m2: float, max_boxes: int = 83) -> None:
        if squared_radius_m2 < 0:
            raise ValueError(f"squared_radius_m2 must not be negative, got {squared_radius_m2}")
        self.radius_m, self.max_boxes = squared_radius_m2**0.5, max_boxes

    def __call__(self, boxes: Boxes3D, task_class: Tensor) -> Tensor:
        """Boxes of one frame and task -> (K,) int64 of those kept, by falling score."""
        one_group = torch.zeros_like(boxes.label)
        radius_m = torch.full_like(boxes.score, self.radius_m)
        return circle_nms(boxes.center_m[:, :2], boxes.score, one_group, radius_m)[: self.max_boxes]


@MODELS.register_module()
class RotatedSuppression:
    """Boxes of a task that overlap, seen from above; the class does not matter.

    Args:
        overlap: two boxes overlap where their IoU is above this.
        size_factors: what boxes of each class of the task are enlarged by for that comparison (Scale-NMS of BEVDet,
            arXiv 2112.11790, section 3.4: what is small never overlaps otherwise). One number stands for all classes.
        max_candidates: best boxes that are compared.
        max_boxes: kept a frame and task.
    """

    def __init__(
        self, overlap: float, size_factors: float | Sequence[float] = 1.0, max_candidates: int = 1000, max_boxes: int = 83
    ) -> None:
        if not 0 <= overlap <= 1:
            raise ValueError(f"overlap must be in 0..1, got {overlap}")
        self.overlap, self.max_candidates, self.max_boxes = overlap, max_candidates, max_boxes
        self.size_factors = [size_factors] if isinstance(size_factors, (int, float)) else list(size_factors)

    def __call__(self, boxes: Boxes3D, task_class: Tensor) -> Tensor:
        """Boxes of one frame and task, with their (M,) class within it -> (K,) int64 of those kept, by falling score.

        Raises:
            ValueError: a class without a size factor.
        """
        factors = boxes.size_m.new_tensor(self.size_factors)
        if len(factors) > 1 and len(boxes) and int(task_class.max()) >= len(factors):
            raise ValueError(f"{len(factors)} size_factors for class {int(task_class.max())} of a task")
        factor = factors[task_class if len(factors) > 1 else torch.zeros_like(task_class)]
        flat = torch.cat([boxes.center_m[:, :2], boxes.size_m[:, :2] * factor[:, None], boxes.yaw_rad[:, None]], 1)
        best = boxes.score.sort(descending=True, stable=True).indices[: self.max_candidates]
        return best[nms_rotated(flat[best], boxes.score[best], self.overlap)][: self.max_boxes]
