"""tools/convert_points.py as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bev.io.points import read_points, write_points
from tests.io.point_clouds import assert_same, made_cloud
from tests.paths import REPO_ROOT


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/convert_points.py", *map(str, arguments)]
    return subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True)


def test_folder(tmp_path: Path) -> None:
    cloud = made_cloud()
    del cloud.fields["identity"]
    write_points(cloud, tmp_path / "in" / "a.pcd")
    write_points(cloud, tmp_path / "in" / "deep" / "b.npz")
    (tmp_path / "in" / "broken.pcd").write_text("FIELDS x\n")
    result = run(tmp_path / "in", tmp_path / "out", "--to", "ply", "--encoding", "ascii")
    assert result.returncode == 1, result.stderr
    assert "2 of 3 converted" in result.stdout and "broken.pcd" in result.stderr
    for name in ("a.ply", "deep/b.ply"):
        assert_same(cloud, read_points(tmp_path / "out" / name))


def test_a_loss_needs_to_be_allowed(tmp_path: Path) -> None:
    write_points(made_cloud(), tmp_path / "a.pcd")
    refused = run(tmp_path / "a.pcd", tmp_path / "a.pts")
    assert refused.returncode == 1 and "gps_time" in refused.stderr and not (tmp_path / "a.pts").exists()
    allowed = run(tmp_path / "a.pcd", tmp_path / "a.pts", "--lossy")
    assert allowed.returncode == 0 and "left out field 'ring'" in allowed.stderr


def test_errors_of_use(tmp_path: Path) -> None:
    assert run(tmp_path / "gone.pcd", tmp_path / "a.ply").returncode == 2
    write_points(made_cloud(), tmp_path / "a.pcd")
    assert "--to FORMAT" in run(tmp_path, tmp_path / "out").stderr
    assert run(tmp_path / "a.pcd", tmp_path / "a.pcap").returncode == 1
    wrong = run(tmp_path / "a.pcd", tmp_path / "a.ply", "--lossy", "--encoding", "utf-8")
    assert wrong.returncode == 2 and "utf-8" in wrong.stderr
