"""Boxes that are too far away to be learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bev.data.transforms.base import SampleTransform
from bev.registry import TRANSFORMS
from bev.structures import Sample


@TRANSFORMS.register_module()
class RangeFilter(SampleTransform[None]):
    """Drop ground truth whose centre lies outside a rectangle of the reference frame, as seen from above.

    Args:
        x_m, y_m: (low, high); the borders belong to the outside, as in mmdet3d's ObjectRangeFilter.
    """

    def __init__(self, x_m: tuple[float, float] = (-51.2, 51.2), y_m: tuple[float, float] = (-51.2, 51.2)) -> None:
        if not (x_m[0] < x_m[1] and y_m[0] < y_m[1]):
            raise ValueError(f"RangeFilter: x_m {x_m} and y_m {y_m} must be (low, high)")
        self.x_m, self.y_m = x_m, y_m

    def draw(self, rng: np.random.Generator, sample: Sample) -> None:
        return None

    def apply(self, sample: Sample, chance: None) -> Sample:
        if sample.boxes is None:
            return sample
        x, y = sample.boxes.center_m[:, 0], sample.boxes.center_m[:, 1]
        inside = (x > self.x_m[0]) & (x < self.x_m[1]) & (y > self.y_m[0]) & (y < self.y_m[1])
        return replace(sample, boxes=sample.boxes[inside])
