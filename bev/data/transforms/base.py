"""The interface of transforms of whole samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from bev.geometry.transforms import invert_rigid
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


def move_reference(sample: Sample, new_from_old: Tensor) -> Sample:
    """Express a frame in another reference frame; images stay as they are.

    Args:
        sample: one frame; its previous frames are left alone.
        new_from_old: (4, 4) float64, a rotation, reflection and scale of one factor with a translation (m). With a
            scale the new frame's unit is no metre: cameras and pose hold its inverse, so that projections and global
            positions come out the same, and boxes' sizes and velocities grow with it.
    """
    scale = float(torch.linalg.det(new_from_old[:3, :3]).abs() ** (1 / 3))
    boxes, points = sample.boxes, sample.points
    if boxes is not None:
        boxes = boxes.transform(new_from_old, boxes.frame)
        boxes = boxes if abs(scale - 1) < 1e-9 else replace(boxes, size_m=boxes.size_m * scale)
    rigid_part = new_from_old.clone()
    rigid_part[:3, :3] /= scale
    old_from_new = invert_rigid(rigid_part)
    old_from_new[:3] /= scale
    return replace(
        sample,
        rig=sample.rig.augment_ref(new_from_old),
        global_from_ref=sample.global_from_ref @ old_from_new.to(sample.global_from_ref),
        boxes=boxes,
        points=None if points is None else points.transform(new_from_old, points.frame),
    )
