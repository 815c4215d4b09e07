"""COCO's twelve numbers and VOC's AP50.

The matching is pycocotools': it is the reference implementation that the published numbers come from (so they are
reproduced by construction), has wheels for every system, and the nuScenes devkit needs it anyway.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import asdict

from bev._optional import require
from bev.evaluation.coco.read import read_annotations, read_results
from bev.evaluation.coco.voc import all_point, eleven_point, precision_recall

# In the order of COCOeval's ``stats``.
SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
Matches = tuple[np.ndarray, np.ndarray]
_ALL_AREAS, _HUNDRED = 0, 2  # positions among COCOeval's areas and limits of detections


@dataclass(frozen=True, eq=False)
class CocoEvaluation:
    """Scored boxes of pictures.

    Attributes:
        scores: the twelve numbers by name (-1 where there is nothing to score, as COCO has it), ``VOC11`` and ``VOC``
            (mean AP50, 11-point and all-point), ``images``, and ``classes``: of each class ``AP``, ``AP50``, ``AP75``,
            ``VOC11``, ``VOC``, ``truth`` and ``predictions``; NaN for a class without truth.
        recall: (101,).
        precision: by class (10, 101) at IoU 0.5, 0.55 ... 0.95, over all sizes, 100 detections a picture; -1 for a
            class without truth.
        matches: by class the score (n,) and whether it is a match (n,) of each detection at IoU 0.5.
    """

    scores: dict[str, Any]
    recall: np.ndarray
    precision: dict[str, np.ndarray]
    matches: dict[str, Matches]


def evaluate_coco(results_path: str | Path, annotations_path: str | Path) -> CocoEvaluation:
    """Score detections against COCO annotations.

    VOC's AP counts COCO's matches at IoU 0.5 with crowds left out. VOC's own program differs where a detection's best
    box is taken already: it then counts a false positive, COCO tries the next box.

    Raises:
        FileError: a file cannot be used; names the record.
        ImportError: pycocotools is not installed.
    """
    annotations = read_annotations(annotations_path)
    names = {int(c["id"]): str(c["name"]) for c in annotations["categories"]}
    results = read_results(results_path, {int(i["id"]): i for i in annotations["images"]}, names)
    return score_coco(annotations, [{**asdict(r), "bbox": list(r.bbox)} for r in results])


def score_coco(annotations: dict[str, Any], results: list[dict[str, Any]]) -> CocoEvaluation:
    """As :func:`evaluate_coco`, from decoded content that is known to be sound.

    Args:
        annotations: COCO annotations.
        results: COCO results: ``image_id``, ``category_id``, ``bbox`` and ``score`` each.
    """
    names = {int(c["id"]): str(c["name"]) for c in annotations["categories"]}
    scorer = _run_pycocotools(annotations, results)
    per_image = _by_class(scorer)
    precision = {names[c]: scorer.eval["precision"][:, :, k, _ALL_AREAS, _HUNDRED] for k, c in _classes(scorer)}
    matches = {names[c]: _matches(per_image[c]) for _, c in _classes(scorer)}
    classes = {
        names[c]: _class_scores(precision[names[c]], per_image[c], *matches[names[c]]) for _, c in _classes(scorer)
    }
    present = [row for row in classes.values() if row["truth"]]
    voc = {k: float(np.mean([row[k] for row in present])) if present else float("nan") for k in ("VOC11", "VOC")}
    summary = dict(zip(SUMMARY, scorer.stats.tolist(), strict=True))
    scores = {**summary, **voc, "images": len(scorer.params.imgIds), "classes": classes}
    return CocoEvaluation(scores, np.asarray(scorer.params.recThrs), precision, matches)


def _run_pycocotools(annotations: dict[str, Any], results: list[dict[str, Any]]) -> Any:
    coco = require("pycocotools.coco", extra="coco")
    cocoeval = require("pycocotools.cocoeval", extra="coco")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress and its table
        truth = coco.COCO()
        truth.dataset = annotations
        truth.createIndex()
        # loadRes asks the first record what kind of results it has: of no records there is nothing to ask.
        found = truth.loadRes(results) if results else _without_results(coco, annotations)
        scorer = cocoeval.COCOeval(truth, found, "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer


def _without_results(coco: Any, annotations: dict[str, Any]) -> Any:
    empty = coco.COCO()
    empty.dataset = {**annotations, "annotations": []}
    empty.createIndex()
    return empty


def _classes(scorer: Any) -> list[tuple[int, int]]:
    return list(enumerate(scorer.params.catIds))


def _by_class(scorer: Any) -> dict[int, list[dict[str, Any]]]:
    """Matches of each class in each picture that has any box of it, over all sizes."""
    area = list(scorer.params.areaRng[_ALL_AREAS])
    found: dict[int, list[dict[str, Any]]] = {c: [] for _, c in _classes(scorer)}
    for entry in scorer.evalImgs:
        if entry is not None and list(entry["aRng"]) == area:
            found[entry["category_id"]].append(entry)
    return found


def _matches(per_image: list[dict[str, Any]]) -> Matches:
    """Score and match at IoU 0.5 of a class's detections, those on crowds left out."""
    counted = [~np.asarray(e["dtIgnore"][0], bool) for e in per_image]
    score = np.concatenate([[], *(np.asarray(e["dtScores"])[keep] for e, keep in zip(per_image, counted))])
    match = np.concatenate([[], *(np.asarray(e["dtMatches"][0])[keep] > 0 for e, keep in zip(per_image, counted))])
    return score, match.astype(bool)


def _class_scores(
    precision: np.ndarray, per_image: list[dict[str, Any]], score: np.ndarray, match: np.ndarray
) -> dict[str, Any]:
    truth = int(sum((np.asarray(e["gtIgnore"]) == 0).sum() for e in per_image))
    voc = {"VOC11": float("nan"), "VOC": float("nan")}
    if truth:
        curve = precision_recall(score, match, truth)
        voc = {"VOC11": eleven_point(*curve), "VOC": all_point(*curve)}
    at = {"AP": precision, "AP50": precision[0], "AP75": precision[5]}
    return {**{k: _mean(v) for k, v in at.items()}, **voc, "truth": truth, "predictions": len(score)}


def _mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float("nan")
