"""Calibrations that tell nothing: what a detector is worth without its cameras' parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from bev.data.transforms.base import SampleTransform
from bev.registry import TRANSFORMS
from bev.structures import Sample


@TRANSFORMS.register_module()
class ExchangeCalibrations(SampleTransform[np.ndarray]):
    """Give the N cameras each other's intrinsics and extrinsics in a random order, a new one for every draw.

    Images and their homographies, boxes and points stay right. An ablation, not an augmentation: a detector that does
    as well with it as without does not use its calibration. Losses that project with it (LiDAR depth, image centres)
    must be switched off, or they teach nonsense.
    """

    def draw(self, rng: np.random.Generator, sample: Sample) -> np.ndarray:
        """(N,) whose calibration each camera gets."""
        return rng.permutation(sample.rig.num_cameras)

    def apply(self, sample: Sample, chance: np.ndarray) -> Sample:
        rig, order = sample.rig, torch.from_numpy(chance)
        changed = replace(rig, intrinsics=rig.intrinsics[order], cam_from_ref=rig.cam_from_ref[order])
        return replace(sample, rig=changed)
