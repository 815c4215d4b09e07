"""Bad arguments of the synthetic nuScenes get clear errors and touch nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bev.data.synthetic import WorldOptions, generate
from bev.data.synthetic.options import SceneKey, scene_keys
from bev.data.synthetic.scene import build_scene
from tests.paths import REPO_ROOT

TINY = {"frames_per_scene": 1, "width": 64, "height": 36, "sweeps": 0}


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"scenes": 0}, "scenes must be between 1"),
        ({"width": 31}, "width must be between 32"),
        ({"height": 0}, "height must be between"),
        ({"frames_per_scene": 0}, "frames_per_scene must be between 1"),
        ({"sweeps": -1}, "sweeps must be between 0"),
        ({"seed": -1}, "seed must be between 0"),
        ({"val_scenes": 3}, "val_scenes must be between 0 and 2"),
        ({"jpeg_quality": 101}, "jpeg_quality must be"),
        ({"traffic_percent": 201}, "traffic_percent must be"),
        ({"version": "../x"}, "plain folder name"),
        ({"version": "samples"}, "sensor folder"),
        ({"scenes": 2.5}, "scenes must be an integer"),
        ({"workers": 0}, "workers must be between 1"),
    ],
)
def test_options_out_of_range_are_named(tmp_path: Path, bad: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "out", **{"scenes": 2, **bad})  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError):
            generate(tmp_path, 1, overwrite=overwrite, **TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]
    with pytest.raises(FileExistsError, match="is a file"):
        generate(tmp_path / "precious", 1, **TINY)


def test_overwrite_replaces_a_synthetic_data_set_but_nothing_beside_it(tmp_path: Path) -> None:
    root = generate(tmp_path / "out", 1, seed=1, **TINY)
    before = sorted(p.name for p in (root / "samples" / "CAM_FRONT").iterdir())
    with pytest.raises(FileExistsError, match="not empty"):
        generate(root, 1, seed=2, **TINY)
    generate(root, 1, seed=2, overwrite=True, **TINY)
    after = sorted(p.name for p in (root / "samples" / "CAM_FRONT").iterdir())
    assert len(after) == 1 and after != before
    (root / "v1.0-mini").mkdir()
    with pytest.raises(FileExistsError, match="v1.0-mini"):
        generate(root, 1, seed=3, overwrite=True, **TINY)
    assert sorted(p.name for p in (root / "samples" / "CAM_FRONT").iterdir()) == after


def test_tables_appear_only_when_everything_else_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bev.data.synthetic.recorder import Recorder

    original, calls = Recorder._key_frame, []

    def fails_on_the_second(self: Recorder, *arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("disk full")
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Recorder, "_key_frame", fails_on_the_second)
    with pytest.raises(OSError, match="disk full"):
        generate(tmp_path / "out", 1, **{**TINY, "frames_per_scene": 2})
    assert not (tmp_path / "out" / "v1.0-synthetic").exists()
    monkeypatch.undo()
    generate(tmp_path / "out", 1, overwrite=True, **TINY)
    assert (tmp_path / "out" / "v1.0-synthetic" / "sample.json").is_file()


def test_held_out_scenes_are_a_fifth_and_have_names_of_their_own() -> None:
    assert [WorldOptions(scenes=n).held_out for n in (1, 2, 5, 6, 30)] == [0, 1, 1, 2, 6]
    assert [k.name for k in scene_keys(WorldOptions(scenes=4, val_scenes=2))] == [
        "scene-0001",
        "scene-0002",
        "scene-5001",
        "scene-5002",
    ]


def test_the_command_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "tools/create_data.py",
        "synthetic",
        "--out",
        str(tmp_path / "out"),
        "--scenes",
        "1",
        "--seed",
        "0",
        "--frames-per-scene",
        "2",
        "--width",
        "64",
        "--height",
        "36",
        "--sweeps",
        "0",
        "--workers",
        "1",
    ]
    done = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 key frames in" in done.stdout and "100%" not in done.stderr
    again = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True)
    assert again.returncode == 2 and "not empty" in again.stderr and "Traceback" not in again.stderr


def test_traffic_thins_out_but_every_class_stays() -> None:
    def annotated(percent: int) -> list[str]:
        options = WorldOptions(scenes=3, seed=4, frames_per_scene=8, traffic_percent=percent)
        scenes = [build_scene(options, SceneKey(False, number)) for number in range(3)]
        return [body.category for scene in scenes for body in scene.bodies if body.category]

    none, quiet, busy = annotated(0), annotated(40), annotated(100)
    assert len(none) < 0.8 * len(quiet) and len(quiet) < 0.7 * len(busy)
    assert {"vehicle.trailer", "vehicle.truck", "vehicle.car", "movable_object.barrier"} <= set(none)
