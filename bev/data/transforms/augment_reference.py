"""Turn, scale and mirror the reference frame: the bird's-eye-view augmentation of BEVDet and BEVDepth."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from bev.data.transforms.base import SampleTransform
from bev.geometry.rotations import rotation_about_z
from bev.geometry.transforms import rigid
from bev.registry import TRANSFORMS
from bev.structures import Boxes3D, Sample


class ReferenceDraw(NamedTuple):
    """What chance decides: angle, factor, whether x and whether y is mirrored."""

    angle_rad: float
    scale: float
    flip_x: bool
    flip_y: bool


@TRANSFORMS.register_module()
class AugmentReference(SampleTransform[ReferenceDraw]):
    """Express a frame in a turned, scaled and mirrored reference frame; images stay as they are.

    Cameras, boxes, points and the pose are re-expressed exactly. Depths along the optical axes stay those of the world,
    as in the published code (BEVDet, arXiv 2112.11790, section 3.3).

    Args:
        max_rad: the angle is drawn from [-max_rad, max_rad].
        scale: the factor is drawn from (low, high).
        flip_x, flip_y: probability that the axis's sign changes.
    """

    def __init__(
        self,
        max_rad: float = 0.3925,
        scale: tuple[float, float] = (0.95, 1.05),
        flip_x: float = 0.5,
        flip_y: float = 0.5,
    ) -> None:
        chances = flip_x, flip_y
        if not 0 <= max_rad <= math.pi or not 0 < scale[0] <= scale[1] or not 0 <= min(chances) <= max(chances) <= 1:
            raise ValueError(
                f"AugmentReference: max_rad {max_rad} must be in 0..pi, scale {scale} rise from above 0, "
                f"flip_x {flip_x} and flip_y {flip_y} be probabilities"
            )
        self.max_rad, self.scale, self.flip_x, self.flip_y = max_rad, (scale[0], scale[1]), flip_x, flip_y

    def draw(self, rng: np.random.Generator, sample: Sample) -> ReferenceDraw:
        angle, scale = rng.uniform(-self.max_rad, self.max_rad), rng.uniform(*self.scale)
        flip_x, flip_y = rng.random(2)
        return ReferenceDraw(float(angle), float(scale), bool(flip_x < self.flip_x), bool(flip_y < self.flip_y))

    def apply(self, sample: Sample, chance: ReferenceDraw) -> Sample:
        signs = torch.tensor([1.0 - 2 * chance.flip_x, 1.0 - 2 * chance.flip_y, 1.0], dtype=torch.float64)
        turn = signs.diag() @ rotation_about_z(torch.tensor(chance.angle_rad, dtype=torch.float64))
        turned_from_old = rigid(turn, torch.zeros(3, dtype=torch.float64))
        new_from_old = rigid(chance.scale * turn, torch.zeros(3, dtype=torch.float64))
        boxes, points = sample.boxes, sample.points
        return replace(
            sample,
            rig=sample.rig.augment_ref(new_from_old),
            global_from_ref=sample.global_from_ref @ torch.linalg.inv(new_from_old).to(sample.global_from_ref),
            boxes=None if boxes is None else _scaled(boxes.transform(turned_from_old, boxes.frame), chance.scale),
            points=None if points is None else points.transform(new_from_old, points.frame),
        )


def _scaled(boxes: Boxes3D, factor: float) -> Boxes3D:
    return replace(
        boxes,
        center_m=boxes.center_m * factor,
        size_m=boxes.size_m * factor,
        velocity_mps=boxes.velocity_mps * factor,
    )
