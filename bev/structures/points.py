"""A point cloud with named fields."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PointCloud:
    """P points in one frame.

    Attributes:
        xyz_m: (P, 3) positions; float64 where float32 would lose digits, as with map coordinates.
        fields: further columns by name, each (P,) or (P, K): ``intensity``, ``ring``, ``time_s`` ...
        frame: name of the frame, e.g. ``"lidar"``.
        units: unit of a field by its name, e.g. ``{"gps_time": "s"}``; a field without one has none that is known.
        grid_hw: (rows, columns) of an organised cloud, whose P = rows * columns points lie row by row; else None.
        meta: what a file said about the cloud as a whole, by format (``{"pcd": {"viewpoint": ...}}``).
    """

    xyz_m: Tensor
    fields: dict[str, Tensor] = field(default_factory=dict)
    frame: str = "lidar"
    units: dict[str, str] = field(default_factory=dict)
    grid_hw: tuple[int, int] | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.xyz_m.ndim != 2 or self.xyz_m.shape[1] != 3:
            raise ValueError(f"PointCloud.xyz_m has shape {tuple(self.xyz_m.shape)}, expected (P, 3)")
        for name, column in self.fields.items():
            if column.shape[0] != len(self):
                raise ValueError(f"PointCloud field {name!r} has {column.shape[0]} rows, expected {len(self)}")
        if self.grid_hw is not None and self.grid_hw[0] * self.grid_hw[1] != len(self):
            raise ValueError(f"PointCloud.grid_hw is {self.grid_hw}, but there are {len(self)} points")

    def __len__(self) -> int:
        return int(self.xyz_m.shape[0])

    def __getitem__(self, index: Tensor | slice) -> PointCloud:
        """Select points by mask, indices or slice; an organised cloud loses its rows and columns."""
        picked = {k: v[index] for k, v in self.fields.items()}
        return replace(self, xyz_m=self.xyz_m[index], fields=picked, grid_hw=None)

    def to(self, device: torch.device | str) -> PointCloud:
        """The same points on another device."""
        return replace(self, xyz_m=self.xyz_m.to(device), fields={k: v.to(device) for k, v in self.fields.items()})

    def transform(self, dst_from_src: Tensor, frame: str) -> PointCloud:
        """Apply a (4, 4) affine transform in metres and name the new frame."""
        t = dst_from_src.to(self.xyz_m)
        return replace(self, xyz_m=self.xyz_m @ t[:3, :3].T + t[:3, 3], frame=frame)
