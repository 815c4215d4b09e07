"""tools/convert_points.py as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bev.io.points import read_points, write_points
from tests.io.point_clouds import assert_same, made_cloud
from tests.paths import REPO_ROOT
from tools.convert_points import main


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


def test_a_loss_needs_to_be_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_points(made_cloud(), tmp_path / "a.pcd")
    pair = [str(tmp_path / "a.pcd"), str(tmp_path / "a.pts")]
    assert main(pair) == 1 and "gps_time" in capsys.readouterr().err and not (tmp_path / "a.pts").exists()
    assert main([*pair, "--lossy"]) == 0 and "left out field 'ring'" in capsys.readouterr().err


def test_errors_of_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cloud = str(tmp_path / "a.pcd")
    assert main([str(tmp_path / "gone.pcd"), str(tmp_path / "a.ply")]) == 2
    write_points(made_cloud(), tmp_path / "a.pcd")
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2 and "--to FORMAT" in capsys.readouterr().err
    assert main([cloud, str(tmp_path / "a.pcap")]) == 1
    assert main([cloud, str(tmp_path / "a.ply"), "--lossy", "--encoding", "utf-8"]) == 2
    assert "utf-8" in capsys.readouterr().err
