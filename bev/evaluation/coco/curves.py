"""Precision, recall and F1 against the score, and what is taken for what."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from bev.evaluation.coco.evaluate import CocoEvaluation, Matches
from bev.evaluation.report.plots import matrix, panels

_GRID = np.linspace(0, 1, 201)
_MOST_LINES = 8  # of one panel: more cannot be told apart


def score_curves(matches: Matches, truth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 (201,) of the detections whose score is at least 0, 0.005 ... 1, at IoU 0.5.

    Precision is 1 where no detection is left.
    """
    score, match = matches
    order = np.argsort(-score, kind="stable")
    taken = np.searchsorted(-score[order], -_GRID, side="right")
    hits = np.concatenate([[0], np.cumsum(match[order])])[taken]
    precision = np.divide(hits, taken, out=np.ones(len(_GRID)), where=taken > 0)
    recall = hits / max(truth, 1)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros(len(_GRID)), where=total > 0)
    return precision, recall, f1


def operating_scores(done: CocoEvaluation) -> dict[str, float]:
    """For each class the score at which its F1 is best; 1 for a class without matches."""
    best = {}
    for name, row in done.scores["classes"].items():
        f1 = score_curves(done.matches[name], row["truth"])[2]
        best[name] = float(_GRID[f1.argmax()]) if f1.max() > 0 else 1.0
    return best


def confusion_matrix(
    done: CocoEvaluation, annotations: dict[str, Any], predicted: list[dict[str, Any]], iou: float = 0.5
) -> np.ndarray:
    """(C + 1, C + 1) counts: row the class of the truth, column the class of the prediction; the last is "nothing".

    Predictions from their class's :func:`operating_scores` up are matched, best first, with the free object that they
    overlap most, whatever its class. Crowds and what lies on them are left out.
    """
    ids = [category["id"] for category in annotations["categories"]]
    names = [category["name"] for category in annotations["categories"]]
    best = operating_scores(done)
    truth, found = defaultdict(list), defaultdict(list)
    for row in annotations["annotations"]:
        truth[row["image_id"]].append(row)
    for row in predicted:
        if row["score"] >= best[names[ids.index(row["category_id"])]]:
            found[row["image_id"]].append(row)
    counts = np.zeros((len(ids) + 1, len(ids) + 1), int)
    for image in annotations["images"]:
        for actual, said in _pairs(truth[image["id"]], found[image["id"]], iou):
            row_of, column = (len(ids) if c is None else ids.index(c) for c in (actual, said))
            counts[row_of, column] += 1
    return counts


def _pairs(
    truth: list[dict[str, Any]], found: list[dict[str, Any]], least_iou: float
) -> list[tuple[int | None, int | None]]:
    """Class of the truth and of the prediction of every pair of one picture; None for nothing."""
    overlaps = _overlaps(_corners(found), _corners(truth))
    crowd = np.array([bool(row.get("iscrowd")) for row in truth], bool)
    free, pairs = ~crowd, []
    for index in sorted(range(len(found)), key=lambda i: -found[i]["score"]):
        ours = np.where(free, overlaps[index], -1.0) if len(truth) else np.zeros(0)
        best = int(ours.argmax()) if len(ours) else -1
        if best >= 0 and ours[best] >= least_iou:
            free[best] = False
            pairs.append((truth[best]["category_id"], found[index]["category_id"]))
        elif not (crowd & (overlaps[index] >= least_iou)).any():
            pairs.append((None, found[index]["category_id"]))
    return pairs + [(truth[i]["category_id"], None) for i in np.flatnonzero(free)]


def _corners(rows: list[dict[str, Any]]) -> np.ndarray:
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def _overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    shared = (np.minimum(first[:, None, 2:], second[None, :, 2:]) - low).clip(0).prod(-1)
    area = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    return shared / np.maximum(area[0][:, None] + area[1][None] - shared, 1e-9)


def write_curves(
    folder: str | Path, done: CocoEvaluation, annotations: dict[str, Any], predicted: list[dict[str, Any]]
) -> list[Path]:
    """Write ``precision_recall.png``, ``f1.png`` and ``confusion_matrix.png``; returns their paths.

    The curves are of the eight classes with most objects.

    Raises:
        ImportError: matplotlib is not installed.
    """
    classes = {name: row["truth"] for name, row in done.scores["classes"].items() if row["truth"]}
    shown = sorted(classes, key=lambda name: -classes[name])[:_MOST_LINES]
    of_iou = {"IoU 0.5": 0, "IoU 0.75": 5, "IoU 0.9": 8}
    recall = {iou: {name: (done.recall, done.precision[name][k]) for name in shown} for iou, k in of_iou.items()}
    by_score = {name: score_curves(done.matches[name], classes[name]) for name in shown}
    f1 = {
        title: {name: (_GRID, by_score[name][k]) for name in shown}
        for k, title in enumerate(("precision", "recall", "F1"))
    }
    names = [*done.scores["classes"], "nothing"]
    pictures = {
        "precision_recall.png": panels(recall, "recall", "precision", columns=3),
        "f1.png": panels(f1, "score", "at IoU 0.5", columns=3),
        "confusion_matrix.png": matrix(
            confusion_matrix(done, annotations, predicted), names, names, ("truth", "prediction")
        ),
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, data in pictures.items():
        (Path(folder) / name).write_bytes(data)
    return [Path(folder) / name for name in pictures]
