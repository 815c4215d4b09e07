"""Cameras that fail: training for rigs on which one may be missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bev.data.transforms.base import SampleTransform
from bev.registry import TRANSFORMS
from bev.structures import Sample


@TRANSFORMS.register_module()
class CameraDropout(SampleTransform[Tensor]):
    """Blacken some cameras of a sample, in its earlier frames too; their calibration stays.

    What ``on_error="blank_camera"`` gives for a camera that cannot be read.

    Args:
        probability: that a sample loses cameras at all.
        max_cameras: how many it then loses at most, at least one; one camera is always left.
    """

    def __init__(self, probability: float = 0.1, max_cameras: int = 1) -> None:
        if not 0 <= probability <= 1 or max_cameras < 1:
            raise ValueError(f"CameraDropout: probability {probability} in 0..1, max_cameras {max_cameras} at least 1")
        self.probability, self.max_cameras = probability, max_cameras

    def draw(self, rng: np.random.Generator, sample: Sample) -> Tensor:
        """(N,) bool, the cameras to blacken."""
        cameras = sample.rig.num_cameras
        most = min(self.max_cameras, cameras - 1)
        happens, count, order = rng.random(), int(rng.integers(1, max(most, 1) + 1)), rng.permutation(cameras)
        lost = torch.zeros(cameras, dtype=torch.bool)
        if happens < self.probability and most:
            lost[torch.from_numpy(order[:count])] = True
        return lost

    def apply(self, sample: Sample, chance: Tensor) -> Sample:
        if not bool(chance.any()):
            return sample
        return replace(sample, images=sample.images.masked_fill(chance[:, None, None, None], 0))
