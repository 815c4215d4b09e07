"""nuScenes sweeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bev.io import FileError
from bev.io.points import read_nuscenes_points
from tests.paths import real_data_dir


def test_round_trip(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(7, 5)).astype("<f4")
    table.tofile(tmp_path / "a.pcd.bin")
    points = read_nuscenes_points(tmp_path / "a.pcd.bin")
    np.testing.assert_array_equal(points.xyz_m.numpy(), table[:, :3])
    np.testing.assert_array_equal(points.fields["intensity"].numpy(), table[:, 3])
    np.testing.assert_array_equal(points.fields["ring"].numpy(), table[:, 4])


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="gone.bin.*frame 3"):
        read_nuscenes_points(tmp_path / "gone.bin", "frame 3")
    (tmp_path / "cut.bin").write_bytes(b"\0" * 103)
    with pytest.raises(FileError, match="103 bytes is not a multiple of 20"):
        read_nuscenes_points(tmp_path / "cut.bin")
    np.full((1, 5), np.nan, "<f4").tofile(tmp_path / "nan.bin")
    with pytest.raises(FileError, match="not finite"):
        read_nuscenes_points(tmp_path / "nan.bin")


def test_real_sweep() -> None:
    path = next(real_data_dir("nuscenes_frame").glob("*LIDAR_TOP*"))
    points = read_nuscenes_points(path)
    assert len(points) == 34688
    assert points.fields["ring"].unique().tolist() == list(range(32))
    assert 0 <= float(points.fields["intensity"].min()) and float(points.fields["intensity"].max()) <= 255
