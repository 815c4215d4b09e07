"""COCO's published demo numbers, VOC's two average precisions, and files that cannot be scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bev.evaluation.coco.voc import all_point, eleven_point, precision_recall
from bev.io import FileError
from tests.paths import real_data_dir

pytest.importorskip("pycocotools")

from bev.evaluation.coco import evaluate_coco, write_coco_report  # noqa: E402

PUBLISHED = dict(
    zip(
        "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split(),
        (0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564),
    )
)


def _files(folder: Path, boxes: list[list[float]], results: list[dict[str, Any]]) -> tuple[Path, Path]:
    annotations = [
        dict(id=i, image_id=1, category_id=7, bbox=box, area=box[2] * box[3], iscrowd=0)
        for i, box in enumerate(boxes, 1)
    ]
    categories = [dict(id=7, name="a"), dict(id=9, name="b")]
    truth = dict(images=[dict(id=1, width=640, height=480)], annotations=annotations, categories=categories)
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "results.json", folder / "truth.json"


def _result(box: list[float], score: float, category: int = 7) -> dict[str, Any]:
    return dict(image_id=1, category_id=category, bbox=box, score=score)


def test_the_twelve_published_numbers() -> None:
    folder = real_data_dir("coco_api")
    files = folder / "instances_val2014_fakebbox100_results.json", folder / "instances_val2014_100.json"
    scores = evaluate_coco(*files).scores
    assert {name: round(scores[name], 3) for name in PUBLISHED} == PUBLISHED
    assert scores["images"] == 100
    present = [row for row in scores["classes"].values() if row["truth"]]
    assert np.mean([row["AP"] for row in present]) == pytest.approx(scores["AP"], abs=1e-12)
    assert np.mean([row["AP50"] for row in present]) == pytest.approx(scores["AP50"], abs=1e-12)
    # Three ways to read off the same matches at IoU 0.5.
    assert abs(scores["VOC"] - scores["AP50"]) < 0.02 and abs(scores["VOC11"] - scores["AP50"]) < 0.05


def test_average_precisions_by_hand() -> None:
    """Hits at ranks 1, 3 and 4 of five detections, four boxes in all: recall 1/4, 1/4, 2/4, 3/4, 3/4."""
    score = np.array([0.5, 0.9, 0.7, 0.6, 0.8])
    is_match = np.array([False, True, True, True, False])
    precision, recall = precision_recall(score, is_match, 4)
    assert precision.tolist() == [1, 1 / 2, 2 / 3, 3 / 4, 3 / 5] and recall.tolist() == [0.25, 0.25, 0.5, 0.75, 0.75]
    assert all_point(precision, recall) == pytest.approx(0.25 * 1 + 0.25 * 0.75 + 0.25 * 0.75)
    assert eleven_point(precision, recall) == pytest.approx((3 * 1 + 5 * 0.75) / 11)
    assert all_point(np.zeros(0), np.zeros(0)) == eleven_point(np.zeros(0), np.zeros(0)) == 0


def test_scores_of_a_small_file_and_its_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    boxes = [[10.0, 10.0, 50.0, 50.0], [200.0, 100.0, 40.0, 80.0]]
    elsewhere, other_class = _result([400.0, 300, 20, 20], 0.8), _result(boxes[0], 0.6, 9)
    results = [_result(boxes[0], 0.9), elsewhere, _result(boxes[1], 0.7), other_class]
    done = evaluate_coco(*_files(tmp_path, boxes, results))
    row = done.scores["classes"]["a"]
    assert row["VOC"] == pytest.approx(0.5 + 0.5 * 2 / 3) and row["truth"] == 2 and row["predictions"] == 3
    assert np.isnan(done.scores["classes"]["b"]["AP"]) and done.scores["VOC"] == row["VOC"]
    text = write_coco_report(tmp_path / "r", done).read_text()
    assert f"<td>{done.scores['AP']:.3f}</td>" in text and "data:image/png" in text


def test_no_detections_score_zero(tmp_path: Path) -> None:
    scores = evaluate_coco(*_files(tmp_path, [[1.0, 1, 40, 40]], [])).scores
    assert scores["AP"] == scores["AR100"] == scores["VOC"] == 0 and scores["APs"] == -1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (dict(image_id=5), "record 1: image_id 5 is not in the annotations"),
        (dict(category_id=1), "record 1: category_id 1 is not in the annotations"),
        (dict(bbox=[1, 2, -3, 4]), "record 1: bbox .* must be finite, the size not negative"),
        (dict(bbox=[1, 2, 3]), r"Expected `array` of length 4.*\$\[1\]\.bbox"),
        (dict(score="high"), r"Expected `float`, got `str`.*\$\[1\]\.score"),
    ],
)
def test_bad_results_are_named(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    good = _result([1.0, 2, 3, 4], 0.5)
    files = _files(tmp_path, [[1.0, 1, 40, 40]], [good, {**good, **record}])
    with pytest.raises(FileError, match=f"results.json: {message}"):
        evaluate_coco(*files)


def test_bad_files_are_named(tmp_path: Path) -> None:
    results, truth = _files(tmp_path, [[1.0, 1, 40, 40]], [])
    with pytest.raises(FileError, match="none.json: cannot read"):
        evaluate_coco(tmp_path / "none.json", truth)
    truth.write_text('{"images": []}')
    with pytest.raises(FileError, match="truth.json: expected an object with the lists"):
        evaluate_coco(results, truth)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tools.evaluate import main

    results, truth = _files(tmp_path, [[1.0, 1, 40, 40]], [_result([1.0, 1, 40, 40], 0.5)])
    command = ["evaluate.py", str(results), "--coco", str(truth), "--out", str(tmp_path / "s.json")]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["AP"] == pytest.approx(1.0)
    assert json.loads((tmp_path / "s.json").read_text())["classes"]["a"]["VOC"] == 1.0
    monkeypatch.setattr("sys.argv", ["evaluate.py", str(results)])
    with pytest.raises(SystemExit):
        main()
    assert "need --root, --version and --split" in capsys.readouterr().err
