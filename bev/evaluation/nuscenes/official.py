"""Scores from the official nuScenes devkit."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from bev._optional import require
from bev.data.nuscenes.store import load_index
from bev.evaluation.nuscenes.curves import FIELDS, Curves
from bev.evaluation.nuscenes.samples import wanted_samples
from bev.evaluation.nuscenes.scores import Scores
from bev.evaluation.nuscenes.settings import ERRORS, MAX_BOXES, DetectionSettings
from bev.evaluation.nuscenes.submission import Submission, read_submission


def evaluate_official(
    results_path: str | Path,
    root: str | Path,
    version: str,
    split: str | Sequence[str],
    settings: DetectionSettings | None = None,
    tokens: Sequence[str] | None = None,
) -> tuple[Scores, dict[str, list[Curves]]]:
    """Score a submission with the devkit's own loaders, filters and ``DetectionEval.evaluate``.

    Args:
        results_path: submission JSON.
        root, version, split: as for ``NuScenesDataset``; custom splits and lists of scenes are allowed.
        settings: None: those of the challenge.
        tokens: score these samples of the split only.

    Returns:
        The scores as of ``scores.summarize``, and by class the curves at each threshold.

    Raises:
        FileError: the results or the tables cannot be used; names file and record.
        ImportError: the devkit is not installed.
    """
    index = load_index(root, version)
    submission = read_submission(results_path)
    wanted = wanted_samples(results_path, list(submission.results), index, Path(root) / version, split, tokens)
    return _score(submission, devkit_tables(root, version), wanted, settings or DetectionSettings())


def devkit_tables(root: str | Path, version: str) -> Any:
    """The devkit's ``NuScenes`` object; one per folder and state of its tables is kept in the process."""
    folder = Path(root).resolve() / version
    state = tuple(sorted((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in folder.glob("*.json")))
    return _load_devkit(str(folder.parent), version, state)


@lru_cache(maxsize=2)
def _load_devkit(root: str, version: str, state: tuple[tuple[str, int, int], ...]) -> Any:
    devkit = require("nuscenes", extra="nuscenes")
    with silence():
        return devkit.NuScenes(version=version, dataroot=root, verbose=False)


def _score(
    submission: Submission, tables: Any, wanted: Sequence[str], settings: DetectionSettings
) -> tuple[Scores, dict[str, list[Curves]]]:
    evaluate = require("nuscenes.eval.detection.evaluate", extra="nuscenes")
    loaders = require("nuscenes.eval.common.loaders", extra="nuscenes")
    box_class = evaluate.DetectionBox
    with silence():
        truth = loaders.load_gt_of_sample_tokens(tables, list(wanted), box_class)
        predicted = type(truth)()
        for token in wanted:
            predicted.add_boxes(token, [_eval_box(box_class, box) for box in submission.results[token]])
        scorer = evaluate.DetectionEval.__new__(evaluate.DetectionEval)
        scorer.cfg, scorer.verbose = _config(settings), False
        scorer.gt_boxes, scorer.pred_boxes = (
            prepare_boxes(loaders, tables, boxes, scorer.cfg.class_range) for boxes in (truth, predicted)
        )
        metrics, data = scorer.evaluate()
    curves = {
        name: [Curves(*(getattr(data[(name, t)], field) for field in FIELDS)) for t in settings.thresholds_m]
        for name in settings.class_names
    }
    return _summary(metrics, scorer.cfg, len(wanted)), curves


def _config(settings: DetectionSettings) -> Any:
    """The devkit's configuration."""
    classes = require("nuscenes.eval.detection.data_classes", extra="nuscenes")
    return classes.DetectionConfig(
        dict(settings.class_range_m),
        "center_distance",
        list(settings.thresholds_m),
        settings.error_threshold_m,
        settings.min_recall,
        settings.min_precision,
        MAX_BOXES,
        settings.map_weight,
    )


def _eval_box(box_class: Any, box: Any) -> Any:
    return box_class(
        sample_token=box.sample_token,
        translation=box.translation,
        size=box.size,
        rotation=box.rotation,
        velocity=box.velocity,
        detection_name=box.detection_name,
        detection_score=float(box.detection_score),
        attribute_name=box.attribute_name,
        num_pts=box.num_pts,
    )


def prepare_boxes(loaders: Any, tables: Any, boxes: Any, class_range_m: dict[str, float]) -> Any:
    """Distances and filters of the devkit's ``loaders`` on its ``boxes``, as its ``DetectionEval`` and tracking do."""
    if not boxes.all:
        return boxes  # the devkit's filter stops at an empty set
    return loaders.filter_eval_boxes(tables, loaders.add_center_dist(tables, boxes), class_range_m)


def _summary(metrics: Any, config: Any, samples: int) -> Scores:
    errors = metrics.tp_errors
    classes = {}
    for name in config.class_names:
        precision = {f"AP@{threshold}": float(metrics.get_label_ap(name, threshold)) for threshold in config.dist_ths}
        kinds = {short: float(metrics.get_label_tp(name, long)) for long, short in ERRORS.items()}
        classes[name] = {"AP": float(metrics.mean_dist_aps[name]), **precision, **kinds}
    means = {f"m{short}": float(errors[long]) for long, short in ERRORS.items()}
    return {"NDS": metrics.nd_score, "mAP": metrics.mean_ap, **means, "samples": samples, "classes": classes}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """The devkit prints and draws progress bars whatever ``verbose`` says."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
