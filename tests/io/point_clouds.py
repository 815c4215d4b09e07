"""Clouds for the tests of point cloud files, and what it means that two are the same."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from bev.structures import PointCloud
from tests.paths import REPO_ROOT


def real_point_files() -> list[Path]:
    """The real files of every format, for ``pytest.mark.parametrize``; none where they are absent."""
    folder = Path(os.environ.get("BEV_REAL_DATA", REPO_ROOT.parent / "shared" / "data")) / "pointclouds"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def made_cloud(points: int = 24, grid_hw: tuple[int, int] | None = None) -> PointCloud:
    """Fields of every kind that point files know, with the values that break careless writers."""
    rng = np.random.default_rng(7)
    xyz = rng.normal(0, 40, (points, 3)).astype(np.float32)
    xyz[: points // 4] *= 1e-6
    fields = {
        "intensity": torch.from_numpy(rng.random(points).astype(np.float32)),
        "rgb": torch.from_numpy(rng.integers(0, 256, (points, 3)).astype(np.uint8)),
        "ring": torch.from_numpy(rng.integers(0, 64, points).astype(np.uint16)),
        "gps_time": torch.from_numpy(rng.random(points) * 1e9),
        "descriptor": torch.from_numpy(rng.normal(size=(points, 5)).astype(np.float32)),
        "label": torch.from_numpy(rng.integers(-(2**31), 2**31, points).astype(np.int32)),
        "identity": torch.from_numpy(rng.integers(-(2**63), 2**63 - 1, points)),
        "flag": torch.from_numpy(rng.integers(-128, 128, points).astype(np.int8)),
    }
    if points:
        fields["gps_time"][0] = float("nan")
        fields["intensity"][0] = float("inf")
    return PointCloud(torch.from_numpy(xyz), fields, grid_hw=grid_hw)


def assert_same(left: PointCloud, right: PointCloud, types: bool = True) -> None:
    """Equal positions, fields, values and rows; with ``types`` also equal types. NaN equals NaN."""
    assert set(left.fields) == set(right.fields)
    assert left.grid_hw == right.grid_hw
    pairs = {"xyz_m": (left.xyz_m, right.xyz_m), **{n: (c, right.fields[n]) for n, c in left.fields.items()}}
    for name, (a, b) in pairs.items():
        assert a.dtype == b.dtype or not types, name
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)
