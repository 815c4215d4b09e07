"""The mirror image of a whole frame: cameras, boxes and points, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from bev.data.transforms.base import SampleTransform, move_reference
from bev.registry import TRANSFORMS
from bev.structures import Sample

# The horizontal axis that points to the side, in each reference frame.
_SIDEWAYS = {"lidar": 0, "ego": 1}


@TRANSFORMS.register_module()
class RigMirror(SampleTransform[bool]):
    """Mirror the world at the vehicle's vertical middle plane.

    Each image is flipped, the reference frame is reflected (LiDAR frame x -> -x, ego frame y -> -y), and what was seen
    by a left camera is handed to the right one of the same place, so that camera ``i`` still looks where camera ``i``
    looks. Nothing is approximated for a rig that is not quite symmetric: the calibration goes along. The determinant of
    ``cam_from_ref`` and of ``global_from_ref`` becomes negative; projections, poses and global boxes stay true.

    Args:
        probability: of mirroring a sample.
        frame: reference frame of the data set.
    """

    def __init__(self, probability: float = 0.5, frame: Literal["lidar", "ego"] = "lidar") -> None:
        if frame not in _SIDEWAYS or not 0 <= probability <= 1:
            raise ValueError(f"RigMirror: frame {frame!r} must be 'lidar' or 'ego', probability {probability} in 0..1")
        self.probability, self.frame = probability, frame
        self.new_from_old = torch.eye(4, dtype=torch.float64)
        self.new_from_old[_SIDEWAYS[frame], _SIDEWAYS[frame]] = -1

    def draw(self, rng: np.random.Generator, sample: Sample) -> bool:
        return bool(rng.random() < self.probability)

    def apply(self, sample: Sample, chance: bool) -> Sample:
        if not chance:
            return sample
        order = mirror_order(sample.rig.names)
        width = sample.rig.image_size_px[1]
        flip = torch.tensor([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
        rig = sample.rig.select(order).augment_images(flip, sample.rig.image_size_px)
        flipped = replace(sample, images=sample.images[order].flip(-1), rig=replace(rig, names=sample.rig.names))
        return move_reference(flipped, self.new_from_old)


def mirror_order(names: Sequence[str]) -> list[int]:
    """For each camera the one at the mirrored place: LEFT and RIGHT swap, the others stay.

    Raises:
        ValueError: a camera has no partner.
    """
    swapped = [name.replace("LEFT", "\0").replace("RIGHT", "LEFT").replace("\0", "RIGHT") for name in names]
    missing = [(name, partner) for name, partner in zip(names, swapped) if partner not in names]
    if missing:
        raise ValueError(f"cannot mirror the rig: camera {missing[0][0]} needs {missing[0][1]}, it has {list(names)}")
    return [list(names).index(partner) for partner in swapped]
