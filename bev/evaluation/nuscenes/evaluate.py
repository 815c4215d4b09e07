"""NDS and mAP on columns: the whole detection task without the devkit, bit for bit what the devkit computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bev.data.nuscenes.store import load_index
from bev.evaluation.nuscenes.box_errors import matched_errors
from bev.evaluation.nuscenes.columns import BoxColumns, truth_columns
from bev.evaluation.nuscenes.curves import Curves, accumulate
from bev.evaluation.nuscenes.filters import Surroundings, scored, surroundings_of
from bev.evaluation.nuscenes.matching import best_first, match
from bev.evaluation.nuscenes.read import read_columns
from bev.evaluation.nuscenes.samples import wanted_samples
from bev.evaluation.nuscenes.scores import Scores, summarize
from bev.evaluation.nuscenes.settings import DetectionSettings


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A scored set of detections.

    Attributes:
        settings: what was scored.
        tokens: S samples, in the order of the boxes' ``sample``.
        truth, predicted: the G and M boxes that passed the filters.
        matched: (T, M) row of ``truth`` at each threshold, or -1 for a false positive.
        errors: (T, M) by name; NaN where there is no match or nothing to compare.
        curves: by class, one for each threshold.
        scores: see ``scores.summarize``.
    """

    settings: DetectionSettings
    tokens: list[str]
    truth: BoxColumns
    predicted: BoxColumns
    matched: np.ndarray
    errors: dict[str, np.ndarray]
    curves: dict[str, list[Curves]]
    scores: Scores


def evaluate_columns(
    truth: BoxColumns,
    predicted: BoxColumns,
    surroundings: Surroundings,
    tokens: Sequence[str],
    settings: DetectionSettings | None = None,
) -> Evaluation:
    """Filter, match and score boxes.

    Args:
        truth, predicted: boxes of the same S samples, global frame. Among predictions of one score the later one is
            matched first, so their order counts.
        surroundings: of the S samples.
        tokens: of the S samples.
        settings: None: those of the challenge.

    Raises:
        ValueError: scores below 0 that leave the confidence curve unordered.
    """
    settings = settings or DetectionSettings()
    truth = truth[scored(truth, surroundings, settings.class_range_m)]
    predicted = predicted[scored(predicted, surroundings, settings.class_range_m)]
    return evaluate_filtered(truth, predicted, tokens, settings)


def evaluate_filtered(
    truth: BoxColumns, predicted: BoxColumns, tokens: Sequence[str], settings: DetectionSettings
) -> Evaluation:
    """Match and score boxes that passed the filters; see :func:`evaluate_columns`."""
    order = best_first(predicted.score)
    matched = match(truth, predicted, settings.thresholds_m, order)
    errors = matched_errors(truth, predicted, matched)
    curves = accumulate(truth, predicted, matched, errors, order)
    scores = summarize(curves, settings, len(tokens))
    return Evaluation(settings, list(tokens), truth, predicted, matched, errors, curves, scores)


def evaluate_submission(
    results_path: str | Path,
    root: str | Path,
    version: str,
    split: str | Sequence[str],
    settings: DetectionSettings | None = None,
    tokens: Sequence[str] | None = None,
) -> Evaluation:
    """Check and score a submission against a nuScenes folder.

    Args:
        results_path: submission JSON.
        root, version, split: as for ``NuScenesDataset``; custom splits and lists of scenes are allowed.
        settings: None: those of the challenge.
        tokens: score these samples of the split only.

    Raises:
        FileError: the results or the tables cannot be used; names file and record.
    """
    index = load_index(root, version)
    predicted, predicted_tokens = read_columns(results_path)
    wanted = wanted_samples(results_path, predicted_tokens, index, Path(root) / version, split, tokens)
    frames = [index.frame_of[token] for token in wanted]
    number = {token: i for i, token in enumerate(predicted_tokens)}
    return evaluate_columns(
        truth_columns(index, frames),
        predicted.of_samples({number[token]: i for i, token in enumerate(wanted)}),
        surroundings_of(index, frames),
        wanted,
        settings,
    )


def evaluate_nuscenes(
    results_path: str | Path,
    root: str | Path,
    version: str,
    split: str | Sequence[str],
    settings: DetectionSettings | None = None,
    tokens: Sequence[str] | None = None,
) -> Scores:
    """The scores of :func:`evaluate_submission` alone; see ``scores.summarize``."""
    return evaluate_submission(results_path, root, version, split, settings, tokens).scores
