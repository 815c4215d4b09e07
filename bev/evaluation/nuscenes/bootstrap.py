"""How much of a score is luck: confidence intervals over scenes, and the paired comparison of two files.

Key frames of one scene resemble each other, so whole scenes are drawn with replacement (the cluster bootstrap; Efron
and Tibshirani 1993, chapter 8). A detection counts as often as its scene was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bev.data.nuscenes.store import load_index
from bev.evaluation.nuscenes.curves import RECALLS, Curves
from bev.evaluation.nuscenes.evaluate import Evaluation
from bev.evaluation.nuscenes.scores import Scores, summarize
from bev.evaluation.nuscenes.settings import ERRORS
from bev.structures.conventions import CLASSES

NAMES = ("NDS", "mAP", "mATE", "mASE", "mAOE", "mAVE", "mAAE")
# Fewer scenes than this say nothing about other scenes.
MIN_SCENES = 5


class Resampler:
    """Scores an evaluation anew with a weight for each scene.

    Args:
        done: the evaluation.
        scene: (S,) number of the scene of each sample, from 0.
    """

    def __init__(self, done: Evaluation, scene: np.ndarray) -> None:
        self.settings, self.samples = done.settings, len(done.tokens)
        order = np.argsort(done.predicted.score, kind="stable")[::-1]
        self._truth = [scene[done.truth.sample[done.truth.label == c]] for c in range(len(CLASSES))]
        self._parts = []
        for c in range(len(CLASSES)):
            rows = order[done.predicted.label[order] == c]
            matched = done.matched[:, rows] >= 0
            errors = {kind: table[done.settings.error_index, rows] for kind, table in done.errors.items()}
            self._parts.append((scene[done.predicted.sample[rows]], done.predicted.score[rows], matched, errors))

    def scores(self, weight: np.ndarray) -> Scores:
        """Scores with (scenes,) whole weights; all 1 gives the evaluation's own to rounding."""
        curves = {
            name: [self._curves(c, t, weight) for t in range(len(self.settings.thresholds_m))]
            for c, name in enumerate(CLASSES)
        }
        return summarize(curves, self.settings, self.samples)

    def _curves(self, c: int, t: int, weight: np.ndarray) -> Curves:
        scene, score, matched, errors = self._parts[c]
        times = weight[scene]
        kept = times > 0
        times, score, is_match = times[kept], score[kept], matched[t, kept]
        positives = float(weight[self._truth[c]].sum())
        if positives == 0 or not is_match.any():
            return Curves.without_matches()
        true = np.cumsum(times * is_match)
        recall, found = np.linspace(0, 1, RECALLS), true / positives
        confidence = np.interp(recall, found, score, right=0)
        precision = np.interp(recall, found, true / np.cumsum(times), right=0)
        means = {name: np.ones(RECALLS) for name in ERRORS}
        if t == self.settings.error_index:
            for name, values in errors.items():
                mean = _running_mean(values[kept][is_match], times[is_match])
                means[name] = np.interp(confidence[::-1], score[is_match][::-1], mean[::-1])[::-1]
        return Curves(recall, precision, confidence, **means)


def _running_mean(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    count = np.cumsum(times * known)
    total = np.cumsum(times * np.where(known, values, 0))
    return np.divide(total, count, out=np.zeros(len(values)), where=count != 0)


@dataclass(frozen=True)
class Interval:
    """A score, and the middle 95 % of what it is over redrawn scenes; None where there are fewer than five scenes."""

    value: float
    low: float | None
    high: float | None


def scene_numbers(scene: np.ndarray) -> np.ndarray:
    """(S,) scenes renumbered from 0 without gaps."""
    return np.unique(scene, return_inverse=True)[1].reshape(-1)


def intervals(done: Evaluation, scene: np.ndarray, draws: int = 300, seed: int = 0) -> dict[str, Interval]:
    """Intervals of NDS, mAP, the five mean errors, and ``AP/<class>``.

    Args:
        done: the evaluation.
        scene: (S,) scene of each sample.
        draws, seed: of the bootstrap.
    """
    drawn = _draws([Resampler(done, scene_numbers(scene))], scene, draws, seed)
    own = _chosen(done.scores)
    return {name: _interval(own[name], None if drawn is None else drawn[0][name]) for name in own}


def compare(
    done: Evaluation, other: Evaluation, scene: np.ndarray, draws: int = 300, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of ``done`` minus ``other``, both scored on the same redrawn scenes.

    Raises:
        ValueError: the two were not scored on the same samples with the same settings.
    """
    if sorted(done.tokens) != sorted(other.tokens) or done.settings != other.settings:
        raise ValueError("the two results must be scored on the same samples with the same settings")
    number = scene_numbers(scene)
    of_token = dict(zip(done.tokens, number))
    pair = [Resampler(done, number), Resampler(other, np.array([of_token[token] for token in other.tokens]))]
    drawn = _draws(pair, scene, draws, seed)
    mine, theirs = _chosen(done.scores), _chosen(other.scores)
    return {
        name: _interval(mine[name] - theirs[name], None if drawn is None else drawn[0][name] - drawn[1][name])
        for name in mine
    }


def compare_scenes(done: Evaluation, other: Evaluation, root: str | Path, version: str) -> dict[str, Interval]:
    """:func:`compare` with the scenes of a nuScenes folder."""
    index = load_index(root, version)
    return compare(done, other, np.array([index.scene[index.frame_of[token]] for token in done.tokens]))


def verdict(difference: Interval) -> str:
    """The difference in words."""
    if difference.low is None or difference.high is None:
        return "cannot be told: too few scenes"
    return "real" if difference.low > 0 or difference.high < 0 else "may be noise"


def _draws(
    resamplers: list[Resampler], scene: np.ndarray, draws: int, seed: int
) -> list[dict[str, np.ndarray]] | None:
    """Of each resampler (draws,) values of each score; None for too few scenes."""
    count = len(np.unique(scene))
    if count < MIN_SCENES:
        return None
    rng = np.random.default_rng(seed)
    rows: list[list[dict[str, float]]] = [[] for _ in resamplers]
    for _ in range(draws):
        weight = np.bincount(rng.integers(count, size=count), minlength=count)
        for resampler, taken in zip(resamplers, rows):
            taken.append(_chosen(resampler.scores(weight)))
    return [{name: np.array([row[name] for row in taken]) for name in taken[0]} for taken in rows]


def _chosen(scores: Scores) -> dict[str, float]:
    return {**{name: scores[name] for name in NAMES}, **{f"AP/{c}": row["AP"] for c, row in scores["classes"].items()}}


def _interval(value: float, drawn: np.ndarray | None) -> Interval:
    if drawn is None:
        return Interval(value, None, None)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(value, float(low), float(high))
