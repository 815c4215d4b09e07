"""Calibrations that are a little wrong, as those of real vehicles are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from bev.data.transforms.base import SampleTransform
from bev.geometry.rotations import matrix_from_quaternion
from bev.geometry.transforms import rigid
from bev.registry import TRANSFORMS
from bev.structures import Sample


@dataclass(frozen=True)
class RigError:
    """Of N cameras: what they are off by, rotation vectors (N, 3) rad, shifts (N, 3) m, focal factors (N,)."""

    rotation_rad: np.ndarray
    shift_m: np.ndarray
    focal: np.ndarray


@TRANSFORMS.register_module()
class CalibrationNoise(SampleTransform[RigError]):
    """Tell the model slightly wrong extrinsics and focal lengths; images, boxes and points stay right.

    Every camera is off by its own error, the same in the earlier frames of a sample: what was knocked stays so.

    Args:
        rotation_deg: standard deviation about each axis of the camera.
        translation_m: standard deviation along each axis of the camera.
        focal: standard deviation of the relative error of both focal lengths.
        probability: that a sample has errors at all.
    """

    def __init__(
        self, rotation_deg: float = 0.5, translation_m: float = 0.03, focal: float = 0.0, probability: float = 1.0
    ) -> None:
        if min(rotation_deg, translation_m, focal) < 0 or not 0 <= probability <= 1:
            raise ValueError(
                f"CalibrationNoise: rotation_deg {rotation_deg}, translation_m {translation_m} and focal {focal} must "
                f"not be negative, probability {probability} in 0..1"
            )
        self.rotation_deg, self.translation_m, self.focal = rotation_deg, translation_m, focal
        self.probability = probability

    def draw(self, rng: np.random.Generator, sample: Sample) -> RigError:
        """Errors of every camera; all of them zero where the sample is spared."""
        n, happens = sample.rig.num_cameras, rng.random() < self.probability
        unit = rng.normal(size=(n, 7)) * happens
        # Bounded: a rare draw must not turn a focal length negative.
        return RigError(
            np.radians(self.rotation_deg) * unit[:, :3],
            self.translation_m * unit[:, 3:6],
            np.exp(self.focal * unit[:, 6].clip(-3, 3)),
        )

    def apply(self, sample: Sample, chance: RigError) -> Sample:
        """The sample with a rig whose cameras are turned, moved and zoomed by their errors."""
        rotation = torch.from_numpy(chance.rotation_rad)
        half = torch.linalg.norm(rotation, dim=1, keepdim=True) / 2
        quaternion = torch.cat([half.cos(), rotation / 2 * torch.sinc(half / torch.pi)], 1)
        wrong_from_cam = rigid(matrix_from_quaternion(quaternion), torch.from_numpy(chance.shift_m))
        intrinsics = sample.rig.intrinsics.clone()
        intrinsics[:, :2, :2] *= torch.from_numpy(chance.focal).to(intrinsics)[:, None, None]
        cam_from_ref = wrong_from_cam.to(sample.rig.cam_from_ref) @ sample.rig.cam_from_ref
        return replace(sample, rig=replace(sample.rig, intrinsics=intrinsics, cam_from_ref=cam_from_ref))
