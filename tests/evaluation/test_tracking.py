"""nuScenes tracking scores: planted errors counted by hand, and the devkit's own class on the same file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bev.evaluation.tracking import TrackedBox, evaluate_tracking, is_tracking_file, read_tracks, write_tracks
from bev.evaluation.tracking.settings import tracking_config
from bev.io import FileError
from tests.data.tiny_nuscenes import VERSION
from tests.evaluation.tracking_world import OBJECTS, TrackWorld, true_tracks

SPLIT = "tiny_train"
Tracks = dict[str, list[TrackedBox]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TrackWorld().write(tmp_path_factory.mktemp("tracks"))


def _changed(root: Path, change: Callable[[str, int, TrackedBox], TrackedBox | None]) -> Tracks:
    """The truth with each box of ``scene-a`` given to ``change`` with its object's name and frame."""
    tracks = true_tracks(root)
    first = next(iter(tracks.values()))
    names = {box.tracking_id: name for box, (name, *_) in zip(first, OBJECTS)}
    for frame, token in enumerate(tracks):
        boxes = (change(names.get(b.tracking_id, "of scene-b"), frame, b) for b in tracks[token])
        tracks[token] = [box for box in boxes if box is not None]
    return tracks


def _planted(name: str, frame: int, box: TrackedBox) -> TrackedBox | None:
    """Car a changes its id, car b drifts 10 m away and comes back, p is seen late, t never."""
    if name == "t" or (name == "p" and frame < 2):
        return None
    if name == "a" and frame >= 5:
        return msgspec.structs.replace(box, tracking_id="another")
    if name == "b" and 3 <= frame < 6:
        return msgspec.structs.replace(box, translation=(box.translation[0], box.translation[1] + 10, 1.0))
    return box


def _scored(tracks: Tracks, root: Path, folder: Path) -> Any:
    pytest.importorskip("nuscenes")
    write_tracks(folder / "tracks.json", tracks)
    return evaluate_tracking(folder / "tracks.json", root, VERSION, SPLIT)


def test_the_truth_scores_one(world: Path, tmp_path: Path) -> None:
    scores = _scored(true_tracks(world), world, tmp_path).scores
    assert (scores["AMOTA"], scores["MOTA"], scores["RECALL"]) == (1.0, 1.0, 1.0)
    assert scores["TP"] == 40 and scores["MT"] == 4
    assert [scores[name] for name in ("FP", "FN", "IDS", "FRAG", "ML", "AMOTP")] == [0] * 6
    assert (scores["samples"], scores["scenes"]) == (10, 1)


def test_planted_errors_are_counted_by_hand(world: Path, tmp_path: Path) -> None:
    done = _scored(_changed(world, _planted), world, tmp_path)
    car, person = done.scores["classes"]["car"], done.scores["classes"]["pedestrian"]
    # a: 9 matches and a switch; b: 7 matches, and 3 boxes far away, which are 3 misses and 3 false alarms.
    counts = ("GT", "TP", "FP", "FN", "IDS", "FRAG", "MT", "ML")
    assert [car[name] for name in counts] == [20, 16, 3, 3, 1, 1, 1, 0]
    assert car["MOTA"] == pytest.approx(1 - (3 + 3 + 1) / 20) and car["RECALL"] == pytest.approx(17 / 20)
    motar = 1 - (3 + 3 + 1 - (1 - 16 / 20) * 20) / (16 / 20 * 20)
    assert car["MOTAR"] == pytest.approx(motar)
    # One score, so one threshold; 31 of the 40 recalls from 0.1 to 1 are not above 16/20, the others count 0 and 2 m.
    assert car["AMOTA"] == pytest.approx(31 / 40 * motar) and car["AMOTP"] == pytest.approx(9 / 40 * 2)
    assert (car["TID"], car["LGD"]) == (0, (0 + 1.5) / 2)
    assert [person[name] for name in counts] == [10, 8, 0, 2, 0, 0, 1, 0]
    assert (person["TID"], person["AMOTA"]) == (1.0, pytest.approx(31 / 40))
    missed = done.scores["classes"]["trailer"]
    assert (missed["AMOTA"], missed["FN"], missed["ML"]) == (0, 10, 1)
    assert np.isnan(done.scores["classes"]["bus"]["AMOTA"]) and set(done.curves) == {"car", "pedestrian", "trailer"}
    assert np.isnan(done.curves["car"]["motar"]).sum() == 9
    assert (done.scores["IDS"], done.scores["FRAG"], done.scores["FN"]) == (1, 1, 15)


def test_it_is_what_the_devkit_says_of_the_file(world: Path, tmp_path: Path) -> None:
    """Scores of many values, through ``TrackingEval`` from end to end."""
    pytest.importorskip("motmetrics")
    rng = np.random.default_rng(0)

    def noise(name: str, frame: int, box: TrackedBox) -> TrackedBox | None:
        offset = rng.normal(0, 1, 3)
        moved = tuple((np.array(box.translation) + offset).tolist())
        score = round(float(rng.random()), 1)
        return msgspec.structs.replace(box, translation=moved, tracking_score=score) if rng.random() < 0.8 else None

    tracks = _changed(world, noise)
    ours = _scored(tracks, world, tmp_path).scores
    from nuscenes.eval.tracking.evaluate import TrackingEval

    where = dict(output_dir=str(tmp_path / "o"), nusc_version=VERSION, nusc_dataroot=str(world), verbose=False)
    official = TrackingEval(tracking_config(), str(tmp_path / "tracks.json"), SPLIT, **where).main(render_curves=False)
    assert 0 < ours["AMOTA"] < 1
    for name, row in official["label_metrics"].items():
        for label, value in row.items():
            np.testing.assert_allclose(ours["classes"][label][name.upper()], value, 0, 1e-9, err_msg=f"{name} {label}")
        np.testing.assert_allclose(ours[name.upper()], official[name], 0, 1e-9)


def test_nothing_found_and_nothing_known(world: Path, tmp_path: Path) -> None:
    scores = _scored({token: [] for token in true_tracks(world)}, world, tmp_path).scores
    assert (scores["AMOTA"], scores["FN"], scores["AMOTP"]) == (0, 40, 2)


def test_the_command_knows_tracks(world: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    pytest.importorskip("motmetrics")
    from tools.evaluate import main

    write_tracks(tmp_path / "tracks.json", true_tracks(world))
    (tmp_path / "c.json").write_text(json.dumps({"class_range": {"car": 15}}))
    command = ["evaluate.py", str(tmp_path / "tracks.json"), "--root", str(world), "--version", VERSION]
    options = ["--split", SPLIT, "--scenes", "scene-a", "--config", str(tmp_path / "c.json")]
    wrote = ["--out", str(tmp_path / "s.json"), "--report", str(tmp_path / "report")]
    monkeypatch.setattr(sys, "argv", [*command, *options, *wrote])
    assert main() == 0
    printed = capsys.readouterr().out
    assert "AMOTA 1.0000" in printed and "pedestrian" in printed and "report.html" in printed
    # Of car a the first 6 boxes are nearer than 15 m (the vehicle drives too), of car b none.
    scores = json.loads((tmp_path / "s.json").read_text())
    assert 0 < scores["classes"]["car"]["GT"] < 20 and scores["classes"]["trailer"]["GT"] == 10
    assert scores["classes"]["bus"]["AMOTA"] is None
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("data:image/png;base64") == 3 and "AMOTA" in page
    monkeypatch.setattr(sys, "argv", [*command, "--split", SPLIT, "--compare", str(tmp_path / "tracks.json")])
    assert main() == 1 and "--compare is for detections" in capsys.readouterr().err


def test_a_scene_cannot_be_cut(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("nuscenes")
    tracks = true_tracks(world)
    write_tracks(tmp_path / "t.json", tracks)
    with pytest.raises(FileError, match="scene-a is chosen in part .3 of 10 samples.*whole scenes"):
        evaluate_tracking(tmp_path / "t.json", world, VERSION, SPLIT, tokens=list(tracks)[:3])


def test_a_track_keeps_its_class(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("nuscenes")

    def change(name: str, frame: int, box: TrackedBox) -> TrackedBox:
        return msgspec.structs.replace(box, tracking_name="bus") if (name, frame) == ("a", 4) else box

    write_tracks(tmp_path / "t.json", _changed(world, change))
    with pytest.raises(FileError, match="box 0: track '0' is a bus, elsewhere in scene scene-a a car"):
        evaluate_tracking(tmp_path / "t.json", world, VERSION, SPLIT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(tracking_name="cra"), "sample s, box 1: unknown class 'cra'; did you mean 'car'"),
        (dict(tracking_name="barrier"), "box 1: unknown class 'barrier'"),
        (dict(tracking_id="1"), "box 1: tracking_id '1' is that of box 0 too"),
        (dict(tracking_id=""), "box 1: its tracking_id is empty"),
        (dict(tracking_score=float("nan")), "box 1: holds a NaN"),
        (dict(translation=(0.0, float("inf"), 0.0)), "box 1: holds a NaN or infinite"),
        (dict(size=(1.0, 0.0, 1.0)), r"box 1: size \(1.0, 0.0, 1.0\)"),
        (dict(sample_token="other"), "box 1: its sample_token is 'other'"),
        (dict(tracking_id=7), r"sample s: Expected `str`, got `int` - at `\$\[1\].tracking_id`"),
        (dict(velocity=(1.0,)), r"sample s: .*\$\[1\].velocity"),
    ],
)
def test_a_wrong_record_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    box = TrackedBox("s", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0), (0.0, 0.0), "1", "car", 0.5)
    rows = [msgspec.to_builtins(box), {**msgspec.to_builtins(box), "tracking_id": "2", **change}]
    (tmp_path / "t.json").write_text(json.dumps({"meta": {}, "results": {"s": rows}}))
    with pytest.raises(FileError, match=f"t.json: {message}" if message.startswith("sample") else message):
        read_tracks(tmp_path / "t.json")


def test_an_unknown_velocity_and_the_most_boxes(tmp_path: Path) -> None:
    box = TrackedBox("s", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0), (0.0, 0.0), "1", "car", 0.5)
    row = {**msgspec.to_builtins(box), "velocity": [float("nan")] * 2}
    (tmp_path / "t.json").write_text(json.dumps({"meta": {}, "results": {"s": [row]}}))
    assert np.isnan(read_tracks(tmp_path / "t.json").results["s"][0].velocity).all()
    write_tracks(tmp_path / "t.json", {"s": [msgspec.structs.replace(box, tracking_id=str(i)) for i in range(501)]})
    with pytest.raises(FileError, match="sample s has 501 boxes, at most 500"):
        read_tracks(tmp_path / "t.json")


def test_which_format_a_file_has(tmp_path: Path, results: Path) -> None:
    assert not is_tracking_file(results)
    long = "x" * (1 << 20)
    (tmp_path / "t.json").write_text(f'{{"meta": {{"a": "{long}"}}, "results": {{"s": [{{"tracking_id": "1"}}]}}}}')
    assert is_tracking_file(tmp_path / "t.json")
    (tmp_path / "e.json").write_text('{"meta": {}, "results": {}}')
    assert not is_tracking_file(tmp_path / "e.json")
    with pytest.raises(FileError, match="none.json: cannot read the results"):
        is_tracking_file(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"class_range": {"cars": 3}}', "class_range.cars.*did you mean 'car'"),
        ('{"class_range": {"car": -3}}', "must be positive numbers"),
        ('{"class_range": [3]}', "class_range"),
        ('{"dist_ths": [1.0]}', "settings.dist_ths"),
        ('{"dist_th_tp": "2"}', "must be positive numbers"),
        ('{"num_thresholds": 0}', "num_thresholds"),
        ("[]", "expected an object, got list"),
        ("{", "Expecting property name"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, content: str, message: str) -> None:
    pytest.importorskip("nuscenes")
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(FileError, match=f"c.json: .*{message}"):
        tracking_config(tmp_path / "c.json")
