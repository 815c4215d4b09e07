"""A point cloud with named fields."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PointCloud:
    """P points in one frame.

    Attributes:
        xyz_m: (P, 3) positions.
        fields: further columns by name, each (P,) or (P, K): ``intensity``, ``ring``, ``time_s`` ...
        frame: name of the frame, e.g. ``"lidar"``.
    """

    xyz_m: Tensor
    fields: dict[str, Tensor] = field(default_factory=dict)
    frame: str = "lidar"

    def __post_init__(self) -> None:
        if self.xyz_m.ndim != 2 or self.xyz_m.shape[1] != 3:
            raise ValueError(f"PointCloud.xyz_m has shape {tuple(self.xyz_m.shape)}, expected (P, 3)")
        for name, column in self.fields.items():
            if column.shape[0] != len(self):
                raise ValueError(f"PointCloud field {name!r} has {column.shape[0]} rows, expected {len(self)}")

    def __len__(self) -> int:
        return int(self.xyz_m.shape[0])

    def __getitem__(self, index: Tensor | slice) -> PointCloud:
        """Select points by mask, indices or slice."""
        return replace(self, xyz_m=self.xyz_m[index], fields={k: v[index] for k, v in self.fields.items()})

    def to(self, device: torch.device | str) -> PointCloud:
        """The same points on another device."""
        return replace(self, xyz_m=self.xyz_m.to(device), fields={k: v.to(device) for k, v in self.fields.items()})

    def transform(self, dst_from_src: Tensor, frame: str) -> PointCloud:
        """Apply a (4, 4) affine transform in metres and name the new frame."""
        t = dst_from_src.to(self.xyz_m)
        return replace(self, xyz_m=self.xyz_m @ t[:3, :3].T + t[:3, 3], frame=frame)
