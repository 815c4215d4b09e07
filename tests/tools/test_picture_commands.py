"""tools/anchors.py and tools/check_pictures.py as a user types them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.engine.pictures import CONFIG, write_squares
from tests.paths import REPO_ROOT


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares") / "data", broken=True)


def _run(name: str, root: Path, *arguments: str, on_error: str = "skip") -> subprocess.CompletedProcess[str]:
    option = f"train_dataloader.dataset.pictures.root={root}"
    tool = str(REPO_ROOT / "tools" / f"{name}.py")
    command = [sys.executable, tool, str(CONFIG), *arguments, "--cfg-options", option]
    command.append(f"train_dataloader.dataset.on_error={on_error}")
    return subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, timeout=300)


def test_a_check_counts_names_the_damaged_and_draws(squares: Path, tmp_path: Path) -> None:
    done = _run("check_pictures", squares, "--out", str(tmp_path), "--sheets", "1")
    assert done.returncode == 1, done.stderr
    assert "8 pictures, 0 without objects; 16 objects" in done.stdout
    assert "cannot be used:" in done.stdout and "p0.png" in done.stdout
    assert cv2.imread(str(tmp_path / "train_0.png")).std() > 5
    (squares / "JPEGImages/p0.png").write_bytes((squares / "JPEGImages/p1.png").read_bytes())
    doubled = _run("check_pictures", squares)
    assert doubled.returncode == 0 and "same pixels as another picture: 1 (first: p1 = p0)" in doubled.stdout


def test_anchors_are_printed_as_a_configuration_takes_them(squares: Path) -> None:
    command = ("anchors", squares, "--count", "2", "--levels", "2")
    whole = (squares / "JPEGImages/p0.png").read_bytes()
    (squares / "JPEGImages/p0.png").write_bytes(whole[:60])
    damaged = _run(*command, on_error="raise")
    assert damaged.returncode == 2 and "p0.png" in damaged.stderr and "Traceback" not in damaged.stderr
    sides = _run(*command)
    assert sides.returncode == 0, sides.stderr
    assert "1 pictures that cannot be used are left out" in sides.stderr and "p0.png" in sides.stderr
    assert sides.stdout.startswith("14 boxes at 64x64 px")
    line = next(line for line in sides.stdout.splitlines() if line.startswith("sizes_px="))
    sizes = ast.literal_eval(line.removeprefix("sizes_px="))
    many = _run("anchors", squares, "--count", "99", "--levels", "1")
    assert many.returncode == 2 and "99 anchors need as many different" in many.stderr, many.stderr
    assert "Traceback" not in many.stderr
    assert len(sizes) == 2 and all(14 <= side <= 24 for level in sizes for pair in level for side in pair)
