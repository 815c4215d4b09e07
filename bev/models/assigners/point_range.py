"""Points by the size of the box they lie in (FCOS)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bev.geometry.boxes2d import box_area
from bev.models.assigners.assignment import BACKGROUND, Assignment, nothing_assigned
from bev.models.priors import Priors
from bev.registry import MODELS


@MODELS.register_module()
class PointRangeAssigner:
    """Points in a box take it on the level made for its size; of several boxes the smallest (FCOS, ICCV 2019).

    Args:
        ranges_px: for each level the least and largest of a point's longest distance to a side of the box.
        center_radius: only points within so many strides of the box's centre, inside the box; None for all points.
    """

    def __init__(self, ranges_px: Sequence[tuple[float, float]], center_radius: float | None = None) -> None:
        self.ranges_px, self.center_radius = [tuple(pair) for pair in ranges_px], center_radius

    @torch.no_grad()
    def assign(self, priors: Priors, boxes: Tensor) -> Assignment:
        """Assign P points to boxes (M, 4) px.

        Raises:
            ValueError: as many levels as ranges are needed.
        """
        if len(priors.counts) != len(self.ranges_px):
            raise ValueError(f"PointRangeAssigner has {len(self.ranges_px)} ranges for {len(priors.counts)} levels")
        if not len(boxes):
            return nothing_assigned(len(priors), boxes.device)
        point = priors.center_px[:, None]
        sides = torch.cat([point - boxes[:, :2], boxes[:, 2:] - point], -1)  # (P, M, 4)
        counts = torch.tensor(priors.counts, device=boxes.device)
        low, high = boxes.new_tensor(self.ranges_px).repeat_interleave(counts, 0).unbind(1)
        longest = sides.amax(-1)
        wanted = self._inside(priors, boxes, sides) & (longest >= low[:, None]) & (longest <= high[:, None])
        area, box = torch.where(wanted, box_area(boxes), torch.inf).min(1)
        positive = ~area.isinf()
        return Assignment(torch.where(positive, box, BACKGROUND), positive.to(boxes.dtype))

    def _inside(self, priors: Priors, boxes: Tensor, sides: Tensor) -> Tensor:
        """(P, M) bool."""
        if self.center_radius is None:
            return sides.amin(-1) > 0
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        reach = self.center_radius * priors.stride_px[:, None, None]
        low, high = torch.max(center - reach, boxes[:, :2]), torch.min(center + reach, boxes[:, 2:])
        point = priors.center_px[:, None]
        return torch.cat([point - low, high - point], -1).amin(-1) > 0
