"""CocoMetric against the COCO files that it writes; curves and confusion by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.structures import Boxes2D, ImageBatch

pytest.importorskip("pycocotools")

from bev.evaluation.coco import CocoMetric, evaluate_coco  # noqa: E402
from bev.evaluation.coco.curves import confusion_matrix, operating_scores, score_curves, write_curves  # noqa: E402

# Truth of two pictures: left, top, width, height, class; crowd.
TRUTH = [
    *((1, [10, 10, 40, 40], 7, 0), (1, [60, 10, 30, 30], 3, 0)),
    *((2, [10, 10, 40, 40], 7, 0), (2, [60, 60, 30, 30], 3, 1)),
]
FOUND = [
    [([10, 10, 50, 50], 0, 0.9), ([60, 10, 90, 40], 0, 0.8), ([0, 60, 20, 80], 1, 0.7)],
    [([11, 11, 50, 50], 0, 0.6), ([60, 60, 90, 90], 1, 0.9)],
]


def _annotations() -> dict[str, Any]:
    return {
        "images": [{"id": n, "file_name": f"p{n}", "height": 100, "width": 100} for n in (1, 2)],
        "annotations": [
            {"id": k, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": crowd}
            for k, (i, b, c, crowd) in enumerate(TRUTH, start=1)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }


def _boxes(rows: list[tuple[list[float], int, float]]) -> Boxes2D:
    corners = torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4)
    return Boxes2D(corners, torch.tensor([row[1] for row in rows]), torch.tensor([row[2] for row in rows]))


def _batch(tokens: list[str]) -> ImageBatch:
    eye = torch.eye(3, dtype=torch.float64).repeat(len(tokens), 1, 1)
    return ImageBatch(torch.zeros(len(tokens), 3, 8, 8, dtype=torch.uint8), eye, [(100, 100)] * len(tokens), tokens)


@pytest.fixture
def metric(tmp_path: Path) -> CocoMetric:
    metric = CocoMetric(out=str(tmp_path / "results.json"))
    metric.dataset_meta = {"classes": ("cat", "dog"), "annotations": _annotations()}
    metric.process(_batch(["p1", "p2"]), [_boxes(rows) for rows in FOUND])
    return metric


def test_scores_are_those_of_the_written_files(metric: CocoMetric, tmp_path: Path) -> None:
    scores = metric.compute_metrics(metric.results)
    done = evaluate_coco(tmp_path / "results.json", tmp_path / "results_annotations.json")
    assert scores["AP"] == done.scores["AP"] and scores["AP50"] == done.scores["AP50"] > 0
    assert scores["AP50/cat"] == pytest.approx(done.scores["classes"]["cat"]["AP50"])
    assert scores["AP50/dog"] == 0.0


def test_a_missing_picture_is_empty_and_a_second_visit_does_not_count(metric: CocoMetric) -> None:
    whole = metric.compute_metrics(metric.results)
    twice = metric.compute_metrics([*metric.results, ("p1", [])])
    assert twice == whole
    half = metric.compute_metrics(metric.results[:1])
    assert half["AR100"] < whole["AR100"]
    metric.partial = True
    assert metric.compute_metrics(metric.results[:1])["AR100"] > half["AR100"]


def test_what_cannot_be_scored_is_refused(metric: CocoMetric) -> None:
    with pytest.raises(ValueError, match="picture p9"):
        metric.process(_batch(["p9"]), [_boxes(FOUND[0])])
    with pytest.raises(ValueError, match="picture p1.*label 2"):
        metric.process(_batch(["p1"]), [_boxes([([0, 0, 1, 1], 2, 0.5)])])
    with pytest.raises(ValueError, match="nan"):
        metric.process(_batch(["p1"]), [_boxes([([0, 0, 1, float("nan")], 0, 0.5)])])
    with pytest.raises(ValueError, match="PictureDataset"):
        CocoMetric().process(_batch(["p1"]), [_boxes(FOUND[0])])


def test_curves_by_hand(metric: CocoMetric) -> None:
    metric.compute_metrics(metric.results)
    assert metric.evaluation is not None
    precision, recall, f1 = score_curves(metric.evaluation.matches["cat"], 2)
    at = {score: round(score * 200) for score in (0.5, 0.7, 0.85, 0.95)}
    assert precision[at[0.5]] == pytest.approx(2 / 3) and recall[at[0.5]] == 1.0
    assert precision[at[0.7]] == 0.5 and recall[at[0.7]] == 0.5
    assert precision[at[0.85]] == 1.0 and f1[at[0.85]] == pytest.approx(2 / 3)
    assert precision[at[0.95]] == 1.0 and recall[at[0.95]] == 0.0
    assert operating_scores(metric.evaluation) == {"cat": pytest.approx(0.0), "dog": 1.0}


def test_confusion_by_hand(metric: CocoMetric, tmp_path: Path) -> None:
    """The dog of picture 1 is called a cat; the dog detections lie below their class's working score."""
    metric.compute_metrics(metric.results)
    assert metric.evaluation is not None
    counts = confusion_matrix(metric.evaluation, metric.annotations, metric.predicted)
    assert counts.tolist() == [[2, 0, 0], [1, 0, 0], [0, 0, 0]]
    pytest.importorskip("matplotlib")
    paths = write_curves(tmp_path, metric.evaluation, metric.annotations, metric.predicted)
    assert [p.name for p in paths] == ["precision_recall.png", "f1.png", "confusion_matrix.png"]
    assert all(np.fromfile(p, np.uint8)[:4].tobytes() == b"\x89PNG" for p in paths)
