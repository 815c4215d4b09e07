"""Scores from the official nuScenes devkit."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from bev._optional import require
from bev.data.nuscenes.dataset import frames_of_split
from bev.data.nuscenes.store import load_index
from bev.evaluation.nuscenes.submission import Submission, check_samples, read_submission
from bev.io import FileError

Scores = dict[str, Any]

# Name in the devkit -> name in every table of results.
ERRORS = {"trans_err": "ATE", "scale_err": "ASE", "orient_err": "AOE", "vel_err": "AVE", "attr_err": "AAE"}


def evaluate_nuscenes(
    results_path: str | Path,
    root: str | Path,
    version: str,
    split: str | Sequence[str],
    class_range_m: Mapping[str, float] | None = None,
    tokens: Sequence[str] | None = None,
) -> Scores:
    """Score a submission with the devkit's own loaders, filters and ``DetectionEval.evaluate`` (detection_cvpr_2019).

    Args:
        results_path: submission JSON; it may hold samples of other splits, which are left out.
        root, version, split: as for ``NuScenesDataset``; custom splits and lists of scenes are allowed.
        class_range_m: other ranges than the official ones, by class.
        tokens: score these samples of the split only.

    Returns:
        ``NDS``, ``mAP``, ``mATE``, ``mASE``, ``mAOE``, ``mAVE``, ``mAAE``, ``samples``, and ``classes``: of each class
        ``AP``, ``AP@0.5`` ... ``AP@4.0`` and the five errors (NaN where a class has none).

    Raises:
        FileError: the results or the tables cannot be used; names file and record.
        ImportError: the devkit is not installed.
    """
    index = load_index(root, version)
    frames = frames_of_split(index, Path(root) / version, split)
    wanted = [index.token[int(i)] for i in frames]
    if tokens is not None:
        chosen = set(tokens)
        wanted = [token for token in wanted if token in chosen]
    if not wanted:
        raise FileError(f"{results_path}: there is no sample of split {split!r} to score")
    if not len(index.box_label):
        raise FileError(f"{root}/{version} has no annotations to score against")
    submission = read_submission(results_path)
    check_samples(results_path, submission, wanted, index.frame_of)
    return _score(submission, devkit_tables(root, version), wanted, class_range_m)


def devkit_tables(root: str | Path, version: str) -> Any:
    """The devkit's ``NuScenes`` object; one per folder and state of its tables is kept in the process."""
    folder = Path(root).resolve() / version
    state = tuple(sorted((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in folder.glob("*.json")))
    return _load_devkit(str(folder.parent), version, state)


@lru_cache(maxsize=2)
def _load_devkit(root: str, version: str, state: tuple[tuple[str, int, int], ...]) -> Any:
    devkit = require("nuscenes", extra="nuscenes")
    with _silence():
        return devkit.NuScenes(version=version, dataroot=root, verbose=False)


def _score(
    submission: Submission, tables: Any, wanted: Sequence[str], class_range_m: Mapping[str, float] | None
) -> Scores:
    evaluate = require("nuscenes.eval.detection.evaluate", extra="nuscenes")
    loaders = require("nuscenes.eval.common.loaders", extra="nuscenes")
    config = require("nuscenes.eval.detection.config", extra="nuscenes").config_factory("detection_cvpr_2019")
    config.class_range.update(class_range_m or {})
    box_class = evaluate.DetectionBox
    with _silence():
        truth = loaders.load_gt_of_sample_tokens(tables, list(wanted), box_class)
        predicted = evaluate.EvalBoxes() if hasattr(evaluate, "EvalBoxes") else type(truth)()
        for token in wanted:
            predicted.add_boxes(token, [_eval_box(box_class, box) for box in submission.results[token]])
        scorer = evaluate.DetectionEval.__new__(evaluate.DetectionEval)
        scorer.cfg, scorer.verbose = config, False
        scorer.gt_boxes, scorer.pred_boxes = (
            _prepare(loaders, tables, boxes, config.class_range) for boxes in (truth, predicted)
        )
        metrics, _ = scorer.evaluate()
    return _summary(metrics, config, len(wanted))


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
    )


def _prepare(loaders: Any, tables: Any, boxes: Any, class_range_m: Mapping[str, float]) -> Any:
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
def _silence() -> Iterator[None]:
    """The devkit prints and draws progress bars whatever ``verbose`` says."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
