"""AMOTA, AMOTP and the CLEAR MOT numbers of nuScenes, computed by the devkit's own tracking code."""

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
    """

    scores: Scores
    recall: np.ndarray
    curves: dict[str, dict[str, np.ndarray]]


def evaluate_tracking(
    results_path: str | Path,
    root: str | Path,
    version: str,
    split: str,
    config_path: str | Path | None = None,
    tokens: Sequence[str] | None = None,
) -> TrackingEvaluation:
    """Check and score a tracking submission with the devkit's loaders, filters and ``TrackingEval.evaluate``.

    Args:
        results_path: tracking submission JSON.
        root, version: as for ``NuScenesDataset``.
        split: official or custom split.
        config_path: see :func:`bev.evaluation.tracking.settings.tracking_config`.
        tokens: score these samples of the split only; they must be whole scenes.

    Raises:
        FileError: the results, the settings or the tables cannot be used; names file and record.
        ImportError: the devkit, motmetrics or pandas is not installed.
    """
    config = tracking_config(config_path)
    index = load_index(root, version)
    submission = read_tracks(results_path)
    wanted = wanted_samples(results_path, list(submission.results), index, Path(root) / version, split, tokens)
    _check_whole_scenes(index, wanted)
    results = {token: submission.results[token] for token in wanted}
    check_tracks(results_path, results, {t: index.scenes[index.scene[index.frame_of[t]]] for t in wanted})
    scenes = {int(index.scene[index.frame_of[token]]) for token in wanted}
    metrics, data = _run_devkit(devkit_tables(root, version), results, split, config)
    scores = _summary(metrics, config.class_names)
    return TrackingEvaluation(
        {**scores, "samples": len(wanted), "scenes": len(scenes)}, *_curves(data, config, scores)
    )


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


def _run_devkit(tables: Any, results: Mapping[str, Sequence[TrackedBox]], split: str, config: Any) -> tuple[Any, Any]:
    """``TrackingMetrics`` and ``TrackingMetricDataList``."""
    for name in ("motmetrics", "pandas"):  # without them the devkit raises unittest's SkipTest
        require(name, extra="nuscenes")
    module = require("nuscenes.eval.tracking.evaluate", extra="nuscenes")
    loaders = require("nuscenes.eval.common.loaders", extra="nuscenes")
    with silence(), _quiet_numpy():
        truth = loaders.load_gt_of_sample_tokens(tables, list(results), module.TrackingBox)
        predicted = type(truth)()
        for token, boxes in results.items():
            predicted.add_boxes(token, [_eval_box(module.TrackingBox, box) for box in boxes])
        scorer = module.TrackingEval.__new__(module.TrackingEval)
        scorer.cfg, scorer.verbose, scorer.output_dir, scorer.render_classes = config, False, "", None
        truth, predicted = (prepare_boxes(loaders, tables, boxes, config.class_range) for boxes in (truth, predicted))
        scorer.tracks_gt = module.create_tracks(truth, tables, split, gt=True)
        scorer.tracks_pred = module.create_tracks(predicted, tables, split, gt=False)
        return scorer.evaluate()


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


def _summary(metrics: Any, names: Sequence[str]) -> Scores:
    with _quiet_numpy():  # the mean of classes none of which is there
        means = {name.upper(): metrics.compute_metric(name) for name in METRICS}
    classes = {c: {m.upper(): float(metrics.label_metrics[m][c]) for m in METRICS} for c in names}
    return {**means, "classes": classes}


def _curves(data: Any, config: Any, scores: Scores) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    # The same for every class, but only the devkit's data of a class that is there hold it.
    recall = np.linspace(config.min_recall, 1, config.num_thresholds).round(12)[::-1]
    return recall, {
        name: {curve: np.array(data[name].get_metric(curve), float) for curve in ("confidence", *CURVES)}
        for name in config.class_names
        if not np.isnan(scores["classes"][name]["AMOTA"])
    }


@contextmanager
def _quiet_numpy() -> Iterator[None]:
    """The devkit averages over classes and thresholds that are not there, which is meant, and warns."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
