"""The mirror image of a whole frame: cameras, boxes and points, exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bev.data.transforms.base import SampleTransform, move_reference
from bev.geometry.mirror import ReferenceFrame, flip_cameras, mirror_matrix
from bev.registry import TRANSFORMS
from bev.structures import Sample


@TRANSFORMS.register_module()
class RigMirror(SampleTransform[bool]):
    """Mirror the world at the vehicle's vertical middle plane.

    Images and calibration as in :func:`bev.geometry.mirror.mirror_cameras`; points, boxes and the pose follow. The
    determinants of ``cam_from_ref`` and of ``global_from_ref`` become negative; poses and global boxes stay true.

    Args:
        probability: of mirroring a sample.
        frame: reference frame of the data set.
    """

    def __init__(self, probability: float = 0.5, frame: ReferenceFrame = "lidar") -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"RigMirror: probability {probability} must be in 0..1")
        self.probability, self.frame = probability, frame
        self.new_from_old = mirror_matrix(frame)

    def draw(self, rng: np.random.Generator, sample: Sample) -> bool:
        return bool(rng.random() < self.probability)

    def apply(self, sample: Sample, chance: bool) -> Sample:
        if not chance:
            return sample
        images, rig = flip_cameras(sample.images, sample.rig)
        return move_reference(replace(sample, images=images, rig=rig), self.new_from_old)
