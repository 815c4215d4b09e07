"""Three-dimensional boxes of one frame, ground truth or predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

Frame = Literal["lidar", "ego", "global"]


@dataclass(frozen=True, eq=False)
class Boxes3D:
    """M upright boxes in one frame.

    Attributes:
        center_m: (M, 3) gravity centre.
        size_m: (M, 3) length (along the heading), width, height.
        yaw_rad: (M,) heading, counter-clockwise from +x of the frame, seen from above.
        velocity_mps: (M, 2) in the frame's x and y; NaN where it is not known (as nuScenes has it).
        label: (M,) int64 class index.
        score: (M,) confidence; ones for ground truth.
        frame: where the boxes live.
        attribute: (M,) int64 index into ``conventions.ATTRIBUTES``, -1 for none; None where the source has none.
        num_lidar_pts, num_radar_pts: (M,) int64 of ground truth; None where the source has none.
        visibility: (M,) int64 nuScenes level 1..4; None where the source has none.
        track_id: (M,) int64, equal for one object over a scene; None where the source has none.
    """

    center_m: Tensor
    size_m: Tensor
    yaw_rad: Tensor
    velocity_mps: Tensor
    label: Tensor
    score: Tensor
    frame: Frame
    attribute: Tensor | None = None
    num_lidar_pts: Tensor | None = None
    num_radar_pts: Tensor | None = None
    visibility: Tensor | None = None
    track_id: Tensor | None = None

    def __post_init__(self) -> None:
        m = self.center_m.shape[0]
        tails = {"center_m": (3,), "size_m": (3,), "velocity_mps": (2,)}
        for name, value in self._tensors().items():
            if tuple(value.shape) != (m, *tails.get(name, ())):
                raise ValueError(f"Boxes3D.{name} has shape {tuple(value.shape)}, expected {(m, *tails.get(name, ()))}")

    def _tensors(self) -> dict[str, Any]:  # Any: the names are the keyword arguments of dataclasses.replace
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}

    def __len__(self) -> int:
        return int(self.center_m.shape[0])

    def __getitem__(self, index: Tensor | slice | Sequence[int]) -> Boxes3D:
        """Select boxes by mask, indices or slice."""
        picked = index if isinstance(index, (Tensor, slice)) else list(index)
        return replace(self, **{name: value[picked] for name, value in self._tensors().items()})

    def to(self, device: torch.device | str) -> Boxes3D:
        """The same boxes on another device."""
        return replace(self, **{name: value.to(device) for name, value in self._tensors().items()})

    def transform(self, dst_from_src: Tensor, frame: Frame) -> Boxes3D:
        """Take boxes to another frame.

        Args:
            dst_from_src: (4, 4) rigid transform in metres; a mirror image (negative determinant) is allowed, a scale
                is not. Only the heading's horizontal part is kept: boxes stay upright.
            frame: name of the destination.
        """
        t = dst_from_src.to(self.center_m)
        center = self.center_m @ t[:3, :3].T + t[:3, 3]
        heading = (
            torch.stack([self.yaw_rad.cos(), self.yaw_rad.sin(), torch.zeros_like(self.yaw_rad)], -1) @ t[:3, :3].T
        )
        velocity = torch.cat([self.velocity_mps, torch.zeros_like(self.velocity_mps[:, :1])], -1) @ t[:3, :3].T
        return replace(
            self,
            center_m=center,
            yaw_rad=torch.atan2(heading[:, 1], heading[:, 0]),
            velocity_mps=velocity[:, :2],
            frame=frame,
        )

    def corners_m(self) -> Tensor:
        """(M, 8, 3) corners: 0-3 bottom, 4-7 top; each front-left, front-right, rear-right, rear-left."""
        sign = self.center_m.new_tensor([[1, 1], [1, -1], [-1, -1], [-1, 1]]) / 2
        offset_xy = self.size_m[:, None, :2] * sign
        cos, sin = self.yaw_rad.cos()[:, None], self.yaw_rad.sin()[:, None]
        x = offset_xy[..., 0] * cos - offset_xy[..., 1] * sin
        y = offset_xy[..., 0] * sin + offset_xy[..., 1] * cos
        half_height = self.size_m[:, 2:3].expand(-1, 4) / 2
        bottom, top = torch.stack([x, y, -half_height], -1), torch.stack([x, y, half_height], -1)
        return self.center_m[:, None] + torch.cat([bottom, top], 1)

    @staticmethod
    def empty(frame: Frame, device: torch.device | str = "cpu") -> Boxes3D:
        """No boxes."""
        zero = torch.zeros(0, 3, device=device)
        return Boxes3D(zero, zero, zero[:, 0], zero[:, :2], zero[:, 0].long(), zero[:, 0], frame)

    @staticmethod
    def cat(parts: Sequence[Boxes3D]) -> Boxes3D:
        """Join boxes of one frame; an optional field is kept only where every part has it."""
        frames = {p.frame for p in parts}
        if len(frames) != 1:
            raise ValueError(f"cannot join boxes of frames {sorted(frames)}")
        shared = set.intersection(*(set(p._tensors()) for p in parts))
        joined: dict[str, Any] = {name: torch.cat([getattr(p, name) for p in parts]) for name in shared}
        dropped: dict[str, Any] = {f.name: None for f in fields(Boxes3D) if f.name not in shared and f.name != "frame"}
        return replace(parts[0], **joined, **dropped)
