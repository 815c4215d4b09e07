"""One frame (Sample), several frames stacked (Batch), and the one function that turns the first into the second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bev.structures.boxes3d import Boxes3D
from bev.structures.camera_rig import CameraRig
from bev.structures.points import PointCloud


@dataclass(frozen=True, eq=False)
class Sample:
    """One key frame seen by N cameras.

    Attributes:
        images: (N, 3, H, W) uint8, RGB, at network size.
        rig: calibration without a batch axis.
        global_from_ref: (4, 4) float64 metres, pose of the reference frame.
        token: the data set's name of the frame.
        timestamp_us: of the reference sensor.
        scene: the data set's name of the recording; state of temporal models is reset where it changes.
        boxes: ground truth in the reference frame, None where there is none (test split).
        points: LiDAR in the reference frame, None where it was not asked for.
        previous: earlier frames, oldest first, for temporal models; each in its own reference frame.
        valid: False for a blank stand-in of a frame that could not be read.
        starts: True where no frame of an earlier batch belongs before this one; False where a streaming sampler put the
            frame before it into the same row of the batch before.
    """

    images: Tensor
    rig: CameraRig
    global_from_ref: Tensor
    token: str
    timestamp_us: int
    scene: str
    boxes: Boxes3D | None = None
    points: PointCloud | None = None
    previous: tuple[Sample, ...] = ()
    valid: bool = True
    starts: bool = True


@dataclass(frozen=True, eq=False)
class Batch:
    """B frames with the same cameras and image size; lists have B entries.

    Attributes:
        images: (B, N, 3, H, W) uint8, RGB.
        rig: calibration with the batch axis.
        global_from_ref: (B, 4, 4) float64 metres.
        timestamp_us: (B,) int64.
        previous: earlier frames as batches, oldest first.
        starts: (B,) bool, see :class:`Sample`; rows whose temporal state must be reset. None: not from samples.
        derived: what a detector has computed from this batch's ground truth, so that counts and losses share it.
    """

    images: Tensor
    rig: CameraRig
    global_from_ref: Tensor
    tokens: list[str]
    timestamp_us: Tensor
    scenes: list[str]
    boxes: list[Boxes3D] | None = None
    points: list[PointCloud] | None = None
    previous: tuple[Batch, ...] = ()
    starts: Tensor | None = None
    derived: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def pin_memory(self) -> Batch:
        """Images in page-locked memory, whose copies to the device do not wait; torch's DataLoader calls this."""
        return replace(self, images=self.images.pin_memory(), previous=tuple(b.pin_memory() for b in self.previous))

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            rig=self.rig.to(device),
            global_from_ref=self.global_from_ref.to(device),
            timestamp_us=self.timestamp_us.to(device),
            boxes=None if self.boxes is None else [b.to(device) for b in self.boxes],
            points=None if self.points is None else [p.to(device) for p in self.points],
            previous=tuple(b.to(device) for b in self.previous),
            starts=None if self.starts is None else self.starts.to(device),
            derived={},
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples. Boxes, points and previous frames are kept only where every sample has them.

    Raises:
        ValueError: samples of different cameras, image sizes or numbers of previous frames; names the tokens.
    """
    tokens = [s.token for s in samples]
    shapes = {tuple(s.images.shape) for s in samples}
    lengths = {len(s.previous) for s in samples}
    if len(shapes) != 1 or len(lengths) != 1:
        raise ValueError(
            f"cannot batch samples {tokens}: image shapes {sorted(shapes)}, previous frames {sorted(lengths)}"
        )
    boxes = [s.boxes for s in samples if s.boxes is not None]
    points = [s.points for s in samples if s.points is not None]
    return Batch(
        images=torch.stack([s.images for s in samples]),
        rig=CameraRig.stack([s.rig for s in samples]),
        global_from_ref=torch.stack([s.global_from_ref for s in samples]),
        tokens=tokens,
        timestamp_us=torch.tensor([s.timestamp_us for s in samples], dtype=torch.int64),
        scenes=[s.scene for s in samples],
        boxes=boxes if len(boxes) == len(samples) else None,
        points=points if len(points) == len(samples) else None,
        previous=tuple(collate([s.previous[i] for s in samples]) for i in range(lengths.pop())),
        starts=torch.tensor([s.starts for s in samples]),
    )
