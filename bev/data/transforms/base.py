"""The interface of transforms of whole samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np

from bev.structures import Sample

Chance = TypeVar("Chance")


class SampleTransform(ABC, Generic[Chance]):
    """A transform that decides once and treats a frame and its previous frames alike.

    Subclasses never write into the tensors of the sample they are given: those may be cached.
    """

    @abstractmethod
    def draw(self, rng: np.random.Generator, sample: Sample) -> Chance:
        """What chance decides for this sample."""

    @abstractmethod
    def apply(self, sample: Sample, chance: Chance) -> Sample:
        """The transformed frame, without regard to its previous frames."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Transform a sample and its previous frames with one draw."""
        chance = self.draw(rng, sample)
        previous = tuple(self.apply(frame, chance) for frame in sample.previous)
        return replace(self.apply(sample, chance), previous=previous)
