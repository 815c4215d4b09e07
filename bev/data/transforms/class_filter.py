"""Boxes of the classes that are to be learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from bev.data.transforms.base import SampleTransform
from bev.registry import TRANSFORMS, suggest
from bev.structures import Sample
from bev.structures.conventions import CLASSES


@TRANSFORMS.register_module()
class ClassFilter(SampleTransform[None]):
    """Drop ground truth of other classes; labels keep their numbers.

    Args:
        classes: names to keep.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        for name in classes:
            if name not in CLASSES:
                raise ValueError(f"ClassFilter: there is no class {name!r}{suggest(name, CLASSES)}")
        self.labels = torch.tensor([CLASSES.index(name) for name in classes], dtype=torch.int64)

    def draw(self, rng: np.random.Generator, sample: Sample) -> None:
        return None

    def apply(self, sample: Sample, chance: None) -> Sample:
        if sample.boxes is None:
            return sample
        return replace(sample, boxes=sample.boxes[torch.isin(sample.boxes.label, self.labels)])
