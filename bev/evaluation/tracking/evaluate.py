"""AMOTA, AMOTP and the CLEAR MOT numbers of nuScenes.

Boxes are filtered and tracks completed by the devkit's own code; the counting is ours (`clear_mot.py`) and agrees
with that of the devkit, which may run beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bev._optional import require
from bev.data.frame_index import FrameIndex
from bev.data.nuscenes.store import load_index
from bev.evaluation.nuscenes.official import devkit_tables, prepare_boxes, silence
from bev.evaluation.nuscenes.samples import wanted_samples
from bev.evaluation.tracking.classes import Curves, Tracks, class_curves, class_frames, class_scores
from bev.evaluation.tracking.settings import tracking_config
from bev.evaluation.tracking.submission import TrackedBox, check_tracks, read_tracks
from bev.io import FileError

# As the devkit writes them, in its order; counts are sums over the classes, the others means.
METRICS = (
    "amota", "amotp", "recall", "motar", "gt", "mota", "motp", "mt", "ml", "faf", "tp", "fp", "fn", "ids", "frag",
    "tid", "lgd",
)  # fmt: skip
COUNTS = ("mt", "ml", "tp", "fp", "fn", "ids", "frag")
# Drawn against recall.
CURVES = ("motar", "mota", "motp", "recall", "fp", "fn", "ids", "frag")

Scores = dict[str, Any]


@dataclass(frozen=True, eq=False)
class TrackingEvaluation:
    """Scored tracks.

    Attributes:
        scores: ``AMOTA`` and the rest of ``METRICS`` in capitals, ``samples``, ``scenes``, and ``classes``: the same
            metrics by class, NaN where a class is not there.
        recall: (T,) recall of the devkit's thresholds, falling.
        curves: by class, (T,) values of ``CURVES`` and ``confidence`` at these thresholds; NaN where not reached.
        official: the devkit's ``METRICS`` and ``classes``, where they were asked for.
    """

    scores: Scores
    recall: np.ndarray
    curves: dict[str, Curves]
    official: Scores | None = None


def evaluate_tracking(
    results_path: str | Path,
    root: str | Path,
    version: str,
    split: str,
    config_path: str | Path | None = None,
    tokens: Sequence[str] | None = None,
    official: bool = False,
) -> TrackingEvaluation:
    """Check and score a tracking submission; the numbers are those of the devkit's ``TrackingEval``.

    Args:
        results_path: tracking submission JSON.
        root, version: as for ``NuScenesDataset``.
        split: official or custom split.
        config_path: see :func:`bev.evaluation.tracking.settings.tracking_config`.
        tokens: score these samples of the split only; they must be whole scenes.
        official: let the devkit count, too, which takes minutes for a split of nuScenes.

    Raises:
        FileError: the results, the settings or the tables cannot be used; names file and record.
        ImportError: the devkit, or for ``official`` motmetrics or pandas, is not installed.
    """
    config = tracking_config(config_path)
    index = load_index(root, version)
    submission = read_tracks(results_path)
    wanted = wanted_samples(results_path, list(submission.results), index, Path(root) / version, split, tokens)
    _check_whole_scenes(index, wanted)
    results = {token: submission.results[token] for token in wanted}
    check_tracks(results_path, results, {t: index.scenes[index.scene[index.frame_of[t]]] for t in wanted})
    scenes = {int(index.scene[index.frame_of[token]]) for token in wanted}
    tracks = _tracks(devkit_tables(root, version), results, split, config.class_range)
    scores, curves = _ours(*tracks, config)
    recall = np.linspace(config.min_recall, 1, config.num_thresholds).round(12)[::-1]
    whole = {**scores, "samples": len(wanted), "scenes": len(scenes)}
    return TrackingEvaluation(whole, recall, curves, official_scores(*tracks, config) if official else None)


def _check_whole_scenes(index: FrameIndex, wanted: Sequence[str]) -> None:
    """A track that is cut in the middle has no meaning, and the devkit fills the hole with empty frames."""
    frames = [index.frame_of[token] for token in wanted]
    chosen = np.bincount(np.asarray(index.scene)[frames], minlength=len(index.scenes))
    length = np.bincount(index.scene, minlength=len(index.scenes))
    cut = np.flatnonzero((chosen > 0) & (chosen < length))
    if len(cut):
        raise FileError(
            f"scene {index.scenes[cut[0]]} is chosen in part ({chosen[cut[0]]} of {length[cut[0]]} samples): "
            "tracks are scored over whole scenes"
        )


def _tracks(
    tables: Any, results: Mapping[str, Sequence[TrackedBox]], split: str, class_range_m: dict[str, float]
) -> tuple[Tracks, Tracks]:
    """True and predicted tracks, filtered and completed by the devkit."""
    loaders = require("nuscenes.eval.common.loaders", extra="nuscenes")
    box_class = require("nuscenes.eval.tracking.data_classes", extra="nuscenes").TrackingBox
    create = require("nuscenes.eval.tracking.loaders", extra="nuscenes").create_tracks
    with silence(), _quiet_numpy():
        truth = loaders.load_gt_of_sample_tokens(tables, list(results), box_class)
        predicted = type(truth)()
        for token, boxes in results.items():
            predicted.add_boxes(token, [_eval_box(box_class, box) for box in boxes])
        truth, predicted = (prepare_boxes(loaders, tables, boxes, class_range_m) for boxes in (truth, predicted))
        return create(truth, tables, split, gt=True), create(predicted, tables, split, gt=False)


def _eval_box(box_class: Any, box: TrackedBox) -> Any:
    return box_class(
        sample_token=box.sample_token,
        translation=box.translation,
        size=box.size,
        rotation=box.rotation,
        velocity=box.velocity,
        num_pts=box.num_pts,
        tracking_id=box.tracking_id,
        tracking_name=box.tracking_name,
        tracking_score=float(box.tracking_score),
    )


def _ours(truth: Tracks, predicted: Tracks, config: Any) -> tuple[Scores, dict[str, Curves]]:
    classes: Scores = {}
    found: dict[str, Curves] = {}
    for name in config.class_names:
        curves = class_curves(class_frames(truth, predicted, name, config.dist_th_tp), config)
        numbers = class_scores(curves, config)
        classes[name] = {metric.upper(): float(numbers[metric]) for metric in METRICS}
        if curves is not None:
            found[name] = {curve: curves[curve] for curve in ("confidence", *CURVES)}
    return {**_over_classes(classes), "classes": classes}, found


def _over_classes(classes: Scores) -> Scores:
    """Counts are summed, the others averaged, over the classes that are there."""
    with _quiet_numpy():  # the mean of classes none of which is there
        rows = {name.upper(): [row[name.upper()] for row in classes.values()] for name in METRICS}
        return {k: float((np.nansum if k.lower() in COUNTS else np.nanmean)(values)) for k, values in rows.items()}


def official_scores(truth: Tracks, predicted: Tracks, config: Any) -> Scores:
    """The same scores by the devkit's ``TrackingEval.evaluate``.

    Raises:
        ImportError: motmetrics or pandas is not installed.
    """
    for name in ("motmetrics", "pandas"):  # without them the devkit raises unittest's SkipTest
        require(name, extra="nuscenes")
    module = require("nuscenes.eval.tracking.evaluate", extra="nuscenes")
    scorer = module.TrackingEval.__new__(module.TrackingEval)
    scorer.cfg, scorer.verbose, scorer.output_dir, scorer.render_classes = config, False, "", None
    scorer.tracks_gt, scorer.tracks_pred = truth, predicted
    with silence(), _quiet_numpy():
        metrics, _ = scorer.evaluate()
        means = {name.upper(): metrics.compute_metric(name) for name in METRICS}
    classes = {c: {m.upper(): float(metrics.label_metrics[m][c]) for m in METRICS} for c in config.class_names}
    return {**means, "classes": classes}


@contextmanager
def _quiet_numpy() -> Iterator[None]:
    """The devkit averages over classes and thresholds that are not there, which is meant, and warns."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
