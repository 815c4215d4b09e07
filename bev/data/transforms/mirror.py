"""The mirror image of a whole frame: cameras, boxes and points, exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from bev.data.transforms.base import SampleTransform
from bev.geometry.mirror import ReferenceFrame, mirror_cameras, mirror_matrix
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
        images, rig = mirror_cameras(sample.images, sample.rig, self.frame)
        boxes, points = sample.boxes, sample.points
        return replace(
            sample,
            images=images,
            rig=rig,
            global_from_ref=sample.global_from_ref @ self.new_from_old.to(sample.global_from_ref),
            boxes=None if boxes is None else boxes.transform(self._in(boxes.center_m), boxes.frame),
            points=None if points is None else points.transform(self._in(points.xyz_m), points.frame),
        )

    def _in(self, like: Tensor) -> Tensor:
        return self.new_from_old.to(like)
