"""``tools/evaluate.py`` as a user types it, and without the devkit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bev.data.nuscenes.store import load_index
from bev.evaluation import evaluate_nuscenes
from tests.data.tiny_nuscenes import VERSION
from tests.paths import REPO_ROOT


def _run(results: Path, root: Path, *options: str, script: str = "tools/evaluate.py") -> Any:
    command = [sys.executable, script, str(results), "--root", str(root), "--version", VERSION, *options]
    environment = {**os.environ, "PYTHONPATH": str(REPO_ROOT), "COLUMNS": "120"}
    return subprocess.run(command, cwd=REPO_ROOT, env=environment, capture_output=True, text=True)


def test_scores_of_a_part_with_other_settings_and_the_devkit_beside(root: Path, results: Path, tmp_path: Path) -> None:
    pytest.importorskip("nuscenes")
    (tmp_path / "near.json").write_text(json.dumps({"class_range": {"car": 20}, "dist_ths": [1.0, 2.0, 3.0]}))
    (tmp_path / "tokens.txt").write_text("\n".join(list(load_index(root, VERSION).token)[1:4]))
    options = ["--split", "tiny_train", "--scenes", "scene-a", "--tokens", str(tmp_path / "tokens.txt")]
    options += ["--config", str(tmp_path / "near.json"), "--out", str(tmp_path / "s.json")]
    done = _run(results, root, *options, "--official")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "s.json").read_text())
    assert f"NDS {scores['NDS']:.4f}" in done.stdout and "traffic_cone" in done.stdout and "(3 samples)" in done.stdout
    assert "are equal to the last bit" in done.stdout
    assert "AP@3.0" in scores["classes"]["car"] and "AP@4.0" not in scores["classes"]["car"]
    whole = evaluate_nuscenes(results, root, VERSION, "tiny_train")
    assert 0 < scores["NDS"] < 1 and scores["NDS"] != whole["NDS"]


def test_differences_are_printed_and_the_status_says_so(root: Path, results: Path) -> None:
    from bev.evaluation.nuscenes import DetectionSettings, evaluate_official, evaluate_submission
    from bev.evaluation.nuscenes.agreement import describe, differences

    pytest.importorskip("nuscenes")
    where = (results, root, VERSION, "tiny_train")
    ours = evaluate_submission(*where, DetectionSettings({"car": 10.0}))
    found, compared = differences(ours, *evaluate_official(*where))
    names = {difference.name for difference in found}
    assert {"NDS", "mAP", "AP/car"} <= names and not any("bus" in name for name in names)
    text = describe(found, compared)
    assert f"{len(found)} differences in {compared} numbers" in text and "\n  AP/car: " in text


def test_without_the_devkit(root: Path, results: Path, tmp_path: Path) -> None:
    """Neither the devkit nor matplotlib is imported; --official then says what to install."""
    blocked = tmp_path / "evaluate.py"
    blocked.write_text(
        "import sys\n"
        "for name in ('nuscenes', 'pyquaternion', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "from tools.evaluate import main\n"
        "sys.exit(main())\n"
    )
    done = _run(results, root, "--split", "tiny_train", script=str(blocked))
    assert done.returncode == 0, done.stderr
    assert f"NDS {evaluate_nuscenes(results, root, VERSION, 'tiny_train')['NDS']:.4f}" in done.stdout
    refused = _run(results, root, "--split", "tiny_train", "--official", script=str(blocked))
    assert refused.returncode == 1 and "pip install 'bevstack[nuscenes]'" in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "tiny_trian"], "did you mean 'tiny_train'"),
        (["--split", "tiny_train", "--scenes", "scene-b"], "split 'tiny_train' has no scene 'scene-b'"),
        (["--split", "tiny_train", "--tokens", "none.txt"], "none.txt: cannot read the tokens"),
        (["--split", "tiny_train", "--config", "none.json"], "none.json: cannot read the settings"),
    ],
)
def test_mistakes_are_one_line(
    root: Path, results: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from tools.evaluate import main

    monkeypatch.setattr(sys, "argv", ["evaluate.py", str(results), "--root", str(root), "--version", VERSION, *options])
    assert main() == 1
    assert message in capsys.readouterr().err.strip().splitlines()[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"class_range": {"cars": 3}}', "class_range_m.cars.*did you mean 'car'"),
        ('{"class_range": {"car": 0}}', "must be positive"),
        ('{"dist_ths": [1.0, 0.5]}', "thresholds_m must ascend"),
        ('{"dist_ths": [1.0]}', "error_threshold_m 2.0 is none of"),
        ('{"min_recall": 1.5}', "min_recall and min_precision"),
        ('{"dist_fcn": "iou"}', "dist_fcn must be 'center_distance'"),
        ('{"thresholds": [1.0]}', "unknown field `thresholds`"),
        ("[]", "Expected `object`"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, content: str, message: str) -> None:
    from bev.evaluation.nuscenes.settings import read_settings
    from bev.io import FileError

    (tmp_path / "c.json").write_text(content)
    with pytest.raises(FileError, match=f"c.json: .*{message}"):
        read_settings(tmp_path / "c.json")


def test_an_official_split_must_be_the_whole_file(root: Path, results: Path, monkeypatch: Any) -> None:
    """And its ties are decided in the order of the file, those of other splits in the order of the table."""
    from bev.evaluation.nuscenes import samples
    from bev.io import FileError

    index, folder = load_index(root, VERSION), root / VERSION
    backwards = list(index.token)[::-1]
    monkeypatch.setattr(samples, "_is_official", lambda split: True)
    with pytest.raises(FileError, match="samples are not in the split.*exactly one split"):
        samples.wanted_samples("r", backwards, index, folder, "tiny_train")
    own = [token for token in backwards if index.scenes[index.scene[index.frame_of[token]]] == "scene-a"]
    assert samples.wanted_samples("r", own, index, folder, "tiny_train") == own
    monkeypatch.undo()
    assert samples.wanted_samples("r", backwards, index, folder, "tiny_train") == own[::-1]


def test_two_results_are_compared(
    root: Path, results: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from tools.evaluate import main

    command = ["evaluate.py", str(results), "--root", str(root), "--version", VERSION, "--split", "tiny_train"]
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "argv", [*command, "--compare", str(results)])
    assert main() == 0
    printed = capsys.readouterr().out
    assert "Difference to the other results" in printed and "too few scenes" in printed and "+0.0000" in printed
