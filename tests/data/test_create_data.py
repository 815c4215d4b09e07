"""tools/create_data.py nuscenes, as a user types it, and the benchmark's tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.nuscenes_tables import write_tables
from bev.data.nuscenes.splits import scenes_of_split
from bev.data.nuscenes.store import load_index
from tests.data.tiny_nuscenes import VERSION
from tests.paths import REPO_ROOT
from tools.create_data import main


def test_the_command_indexes_and_adds_splits(own_root: Path, tmp_path: Path) -> None:
    splits = tmp_path / "mine.json"
    splits.write_text(json.dumps({"mine": ["scene-a", "scene-c"], "tiny_val": ["scene-c"]}))
    command = [sys.executable, "tools/create_data.py", "nuscenes", "--root", str(own_root), "--version", VERSION]
    environment = {**os.environ, "PYTHONPATH": str(REPO_ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--splits", str(splits)], cwd=REPO_ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "8 key frames of 3 scenes" in done.stdout and "split mine: 2 scenes" in done.stdout
    assert list((own_root / VERSION / ".bev_index").glob("*.columns"))
    available = load_index(own_root, VERSION).scenes
    found = {name: scenes_of_split(own_root / VERSION, name, available) for name in ("mine", "tiny_val", "tiny_train")}
    assert found == {"mine": ["scene-a", "scene-c"], "tiny_val": ["scene-c"], "tiny_train": ["scene-a"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"x": ["scene-d"]}', "split 'x': no scene 'scene-d'"),
        ('{"val": ["scene-a"]}', "'val' is an official split"),
        ('{"x": []}', "split 'x': an empty list"),
        ('["scene-a"]', "expected an object of lists of scene names"),
        (None, "there is no such file of splits"),
    ],
)
def test_bad_splits_are_one_line_and_change_nothing(
    own_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    before = (own_root / VERSION / "splits.json").read_bytes()
    code = main(
        ["nuscenes", "--root", str(own_root), "--version", VERSION, "--splits", str(tmp_path / "s.json")]
    )
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1
    assert (own_root / VERSION / "splits.json").read_bytes() == before


def test_a_missing_version_is_one_line(own_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nuscenes", "--root", str(own_root), "--version", "v1.0-mini"]) == 2
    assert "versions in" in capsys.readouterr().err


def test_the_benchmarks_tables_are_what_the_devkit_reads(tmp_path: Path) -> None:
    pytest.importorskip("nuscenes")
    from tests.data.devkit_referee import assert_index_equals_devkit, assert_sweeps_equal_devkit, open_devkit

    counts = write_tables(tmp_path / "v1.0-trainval", scenes=3, samples=17, annotations=60)
    assert counts["sample"] == 17 and counts["sample_annotation"] == 60 and counts["sample_data"] == 17 * 76
    index, devkit = load_index(tmp_path, "v1.0-trainval"), open_devkit(tmp_path, "v1.0-trainval")
    assert_index_equals_devkit(index, devkit)
    assert assert_sweeps_equal_devkit(index, devkit) > 170
