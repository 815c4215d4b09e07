"""Whole scenes: the command, AMOTA on synthetic scenes, and the lead over nearest matching."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.tracking import VERSION, Faults, contestants, detections_of, score, tracked
from bev.data.nuscenes.dataset import frames_of_split
from bev.data.nuscenes.store import load_index
from bev.data.synthetic import generate
from bev.evaluation.nuscenes.submission import detections, write_submission
from bev.evaluation.tracking import TRACKING_CLASSES, evaluate_tracking, read_tracks
from bev.io.json_files import write_json

SPLIT = "synthetic_val"
FEW = {"num_thresholds": 6}  # of recall: the devkit's time is proportional to them


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of 20 key frames with tiny pictures."""
    where = tmp_path_factory.mktemp("town") / "nuscenes"
    return generate(where, scenes=1, val_scenes=1, seed=4, frames_per_scene=20, width=32, height=18, sweeps=0)


def _frames(town: Path) -> tuple[Any, np.ndarray]:
    index = load_index(town, VERSION)
    return index, frames_of_split(index, town / VERSION, SPLIT)


def test_the_truth_is_tracked_and_the_command_writes_it(
    town: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """Truth in, AMOTA of at least 0.95 out, hardly a switch."""
    pytest.importorskip("motmetrics")
    from tools.track import main

    index, frames = _frames(town)
    found = detections_of(index, frames, None, 0)
    write_submission(tmp_path / "d.json", {token: detections(token, boxes) for token, boxes in found.items()})
    command = ["track.py", str(tmp_path / "d.json"), "--root", str(town), "--version", VERSION, "--split", SPLIT]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path / "t.json")])
    assert main() == 0
    assert "tracks:" in capsys.readouterr().out
    written = read_tracks(tmp_path / "t.json")
    assert list(written.results) == [index.token[int(i)] for i in frames] and written.meta["use_camera"] is True
    scores = evaluate_tracking(tmp_path / "t.json", town, VERSION, SPLIT).scores
    assert scores["AMOTA"] >= 0.95 and scores["IDS"] <= 2 and scores["FP"] <= 2


def test_worse_detections_are_tracked_better_than_by_the_nearest_box(town: Path, tmp_path: Path) -> None:
    pytest.importorskip("motmetrics")
    write_json(tmp_path / "c.json", FEW)
    index, frames = _frames(town)
    found = detections_of(index, frames, Faults(), 0)
    trackers = contestants()
    ours, nearest = (score(trackers[n], town, SPLIT, found, tmp_path / "c.json") for n in ("ours", "nearest"))
    assert ours["AMOTA"] >= nearest["AMOTA"] + 0.05
    assert ours["IDS"] <= nearest["IDS"] / 2 and ours["AMOTP"] < nearest["AMOTP"]


def test_switches_counted_directly(town: Path) -> None:
    """Without the devkit: changes of the number of the same object between its detections, boxes dropped and shaken."""
    index, frames = _frames(town)
    faults = Faults(false_boxes=0.0, velocity_mps=0.5)
    counts = {}
    for name in ("ours", "nearest"):
        counts[name] = 0
        for seed in range(3):
            found = detections_of(index, frames, faults, seed)
            results = tracked(contestants()[name], index, frames, found.__getitem__)
            counts[name] += _switches(index, frames, results)
    assert counts["ours"] <= 0.5 * counts["nearest"], counts


def _switches(index: Any, frames: np.ndarray, results: dict[str, Any]) -> int:
    """Each true object takes the nearest tracked box of its class within 2 m."""
    last: dict[int, str] = {}
    switches = 0
    for frame in frames.tolist():
        rows = results[index.token[frame]]
        for row in range(index.boxes_of(frame).start, index.boxes_of(frame).stop):
            name = _class_name(index, row)
            near = [b for b in rows if b.tracking_name == name]
            gaps = [float(np.hypot(*(np.subtract(b.translation, index.box_center_m[row])[:2]))) for b in near]
            if gaps and min(gaps) < 2:
                number, track = near[int(np.argmin(gaps))].tracking_id, int(index.box_track[row])
                switches += last.setdefault(track, number) != number
                last[track] = number
    return switches


def _class_name(index: Any, row: int) -> str:
    from bev.structures.conventions import CLASSES

    label = int(index.box_label[row])
    return CLASSES[label] if label >= 0 and CLASSES[label] in TRACKING_CLASSES else ""


def test_mistakes_are_one_line(town: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    from tools.track import main

    index, frames = _frames(town)
    write_submission(tmp_path / "d.json", {index.token[int(frames[0])]: []})
    command = ["track.py", str(tmp_path / "d.json"), "--root", str(town), "--version", VERSION, "--out", "none.json"]
    for options, message in (
        (["--split", SPLIT], "samples of the split are missing"),
        (["--split", "synthetic_vla"], "did you mean 'synthetic_val'"),
        (["--split", SPLIT, "--max-age-s", "0"], "max_age_s and score_half_life_s must be positive"),
    ):
        monkeypatch.setattr(sys, "argv", [*command, *options])
        assert main() == 1
        assert message in capsys.readouterr().err
    assert not Path("none.json").exists()
