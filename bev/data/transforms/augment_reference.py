"""BEVDet's augmentation of the bird's-eye view: the world turned, scaled and reflected under the cameras."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bev.data.transforms.base import SampleTransform, move_reference
from bev.geometry.rotations import rotation_about_z
from bev.geometry.transforms import rigid
from bev.registry import TRANSFORMS
from bev.structures import Sample


@TRANSFORMS.register_module()
class AugmentReference(SampleTransform[Tensor]):
    """Rotate, scale and flip boxes, points, cameras and pose together; images stay as they are.

    BEVDet (arXiv 2112.11790, section 3.3) and BEVDepth: cameras are told where they are in the changed world, so what
    is lifted from an image lands where the changed boxes are. The order is rotation, scale, flip of x, flip of y.

    Args:
        rotate_deg: (low, high), counter-clockwise about +z.
        scale: (low, high) factor of all lengths, sizes and velocities included.
        flip_x, flip_y: probability of reversing that axis of the reference frame.
    """

    def __init__(
        self,
        rotate_deg: tuple[float, float] = (-22.5, 22.5),
        scale: tuple[float, float] = (0.95, 1.05),
        flip_x: float = 0.5,
        flip_y: float = 0.5,
    ) -> None:
        if not rotate_deg[0] <= rotate_deg[1] or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"AugmentReference: rotate_deg {rotate_deg} and scale {scale} > 0 must be (low, high)")
        if not (0 <= flip_x <= 1 and 0 <= flip_y <= 1):
            raise ValueError(f"AugmentReference: flip_x {flip_x} and flip_y {flip_y} must be in 0..1")
        self.rotate_deg, self.scale, self.flip_x, self.flip_y = rotate_deg, scale, flip_x, flip_y

    def draw(self, rng: np.random.Generator, sample: Sample) -> Tensor:
        """(4, 4) float64 ``new_from_old``."""
        angle, scale = math.radians(rng.uniform(*self.rotate_deg)), rng.uniform(*self.scale)
        flips = rng.random(2) < (self.flip_x, self.flip_y)
        matrix = rigid(rotation_about_z(torch.tensor(angle, dtype=torch.float64)), torch.zeros(3))
        factors = torch.tensor([*np.where(flips, -scale, scale), scale, 1.0], dtype=torch.float64)
        return factors[:, None] * matrix

    def apply(self, sample: Sample, chance: Tensor) -> Sample:
        return move_reference(sample, chance)
