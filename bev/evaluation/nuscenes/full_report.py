"""The report of an evaluation: scores, curves, breakdowns, confusion, mistakes, and what of it may be luck."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bev.data.frame_index import FrameIndex
from bev.data.nuscenes.store import load_index
from bev.evaluation.nuscenes.bootstrap import MIN_SCENES, Interval, compare, intervals, verdict
from bev.evaluation.nuscenes.breakdown import MEANS, GroupScores, break_down, traits_of
from bev.evaluation.nuscenes.confusion import confusion_matrix, operating_scores, worst_false_positives, worst_misses
from bev.evaluation.nuscenes.evaluate import Evaluation
from bev.evaluation.nuscenes.mistake_pictures import describe, mistake_pictures
from bev.evaluation.nuscenes.report import COLUMNS
from bev.evaluation.nuscenes.settings import ERRORS, UNDEFINED
from bev.evaluation.report import Picture, Section, Table, write_report
from bev.evaluation.report.plots import dots, matrix, panels, ranges
from bev.structures.conventions import CLASSES

_UNITS = {"trans_err": "m", "scale_err": "1 - IoU", "orient_err": "rad", "vel_err": "m/s", "attr_err": "1 - accuracy"}
_MISTAKES = 12


def write_nuscenes_report(
    folder: str | Path,
    done: Evaluation,
    root: str | Path,
    version: str,
    title: str = "nuScenes detection",
    other: Evaluation | None = None,
    draws: int = 300,
) -> Path:
    """Write ``report.html`` (self-contained) and ``report.md`` with its pictures.

    Args:
        folder: where to; made if it is missing.
        done: what to report.
        root, version: of the data set; its camera pictures are used where they are there.
        title: heading of the page.
        other: a second evaluation on the same samples, to compare with.
        draws: of the bootstrap.

    Returns:
        Path of the page.

    Raises:
        ValueError: ``other`` was scored on other samples or with other settings.
        ImportError: matplotlib is not installed.
    """
    index = load_index(root, version)
    frames = np.array([index.frame_of[token] for token in done.tokens])
    scene = np.asarray(index.scene)[frames]
    traits = traits_of(done, index, frames)
    sections = [
        _scores(done),
        *([] if other is None else [_comparison(compare(done, other, scene, draws))]),
        _luck(intervals(done, scene, draws), len(np.unique(scene))),
        _curves(done),
        _error_curves(done),
        _breakdown([(trait.name, break_down(done, trait)) for trait in traits]),
        _confusion(done),
        *_mistakes(done, Path(root), index, frames),
    ]
    return write_report(folder, title, sections)


def _scores(done: Evaluation) -> Section:
    scores = done.scores
    summary = ["NDS", "mAP", *(f"m{short}" for short in ERRORS.values())]
    at = [f"AP@{t}" for t in done.settings.thresholds_m]
    rows = [[name, *(row[c] for c in (*COLUMNS[:1], *at, *COLUMNS[1:]))] for name, row in scores["classes"].items()]
    counts = [np.bincount(boxes.label, minlength=len(CLASSES)) for boxes in (done.truth, done.predicted)]
    for row in rows:
        row += [int(count[CLASSES.index(row[0])]) for count in counts]
    tables = [
        Table("", summary, [[scores[name] for name in summary]]),
        Table("By class", ["class", "AP", *at, *COLUMNS[1:], "truth", "predictions"], rows),
    ]
    ranges_m = ", ".join(f"{name} {value:g}" for name, value in done.settings.class_range_m.items())
    text = f"{scores['samples']} samples. Range of each class, m: {ranges_m}."
    return Section("Scores", text.replace("_", " "), tables)


def _luck(found: dict[str, Interval], scenes: int) -> Section:
    title = "How sure the scores are"
    if scenes < MIN_SCENES:
        return Section(title, f"{scenes} scenes are too few to say how the scores would be on others.")
    text = f"95 % intervals over {scenes} scenes drawn anew with replacement (bootstrap)."
    rows = [[name, v.value, v.low, v.high] for name, v in found.items()]
    drawn = {n: (v.value, v.low or 0.0, v.high or 0.0) for n, v in found.items() if n in ("NDS", "mAP") or "/" in n}
    picture = Picture("intervals.png", "NDS, mAP and AP of each class with 95 % intervals.", ranges(drawn, "score"))
    return Section(title, text, [Table("", ["score", "value", "low", "high"], rows)], [picture])


def _comparison(found: dict[str, Interval]) -> Section:
    text = (
        "Difference to the other results on the same redrawn scenes (paired bootstrap): real where the 95 % interval "
        "leaves out 0. For the errors (mATE ...) less is better."
    )
    rows = [[name, v.value, v.low, v.high, verdict(v)] for name, v in found.items()]
    tables = [Table("", ["score", "difference", "low", "high", "verdict"], rows)]
    known = {name: (v.value, v.low, v.high) for name, v in found.items() if v.low is not None and v.high is not None}
    pictures = []
    if known:
        data = ranges(known, "this minus the other", zero_line=True)  # type: ignore[arg-type]
        pictures = [Picture("comparison.png", "Differences with 95 % intervals.", data)]
    return Section("Comparison", text, tables, pictures)


def _curves(done: Evaluation) -> Section:
    names = [f"{t:g} m" for t in done.settings.thresholds_m]
    lines = {
        c: {name: (at.recall, at.precision) for name, at in zip(names, done.curves[c])}
        for c in done.settings.class_names
    }
    caption = "Precision against recall by class, one line a distance threshold."
    picture = Picture("precision_recall.png", caption, panels(lines, "recall", "precision"))
    return Section("Precision and recall", "", (), [picture])


def _error_curves(done: Evaluation) -> Section:
    at, settings = done.settings.error_index, done.settings
    lines: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for long, short in ERRORS.items():
        panel = lines.setdefault(f"{short} ({_UNITS[long]})", {})
        for name in settings.class_names:
            curves = done.curves[name][at]
            reached = (curves.confidence > 0) & (curves.recall > settings.min_recall)
            if reached.any() and long not in UNDEFINED.get(name, ()):
                panel[name] = (curves.recall[reached], getattr(curves, long)[reached])
    caption = f"Mean errors of the matches at {settings.error_threshold_m:g} m down to each recall."
    data = panels(lines, "recall", "mean error", columns=3, limits=None)
    return Section("Errors against recall", "", (), [Picture("errors.png", caption, data)])


def _breakdown(found: list[tuple[str, list[GroupScores]]]) -> Section:
    text = (
        "Nothing is matched anew: a matched prediction belongs to the group of its match, the others to that of their "
        "own values. Recall and errors are those at the error threshold, recall over every prediction whatever its "
        "score. Visibility and points are known of the truth alone, so these groups have no AP."
    )
    header = ["group", "truth", "recall", "mAP", *MEANS]
    tables = [
        Table(f"By {name}", header, [[r.group, r.truths, r.recall, r.mean_ap, *r.errors.values()] for r in rows])
        for name, rows in found
    ]
    drawn = {
        f"by {name}": [
            (row.group, {"recall": row.recall, "mAP": np.nan if row.mean_ap is None else row.mean_ap}) for row in rows
        ]
        for name, rows in found
        if 0 < len(rows) <= 12
    }
    pictures = [Picture("breakdown.png", "Recall and mAP by group.", dots(drawn, "share"))] if drawn else []
    return Section("Breakdown", text, tables, pictures)


def _confusion(done: Evaluation) -> Section:
    bars = operating_scores(done)
    used = ", ".join(f"{name} {bar:.2f}" for name, bar in zip(CLASSES, bars) if np.isfinite(bar)).replace("_", " ")
    text = (
        "Each prediction takes the nearest free truth within the error threshold whatever its class. Predictions count "
        f"from the score at which their class has its best F1: {used or 'no class has a match'}."
    )
    counts = confusion_matrix(done)
    data = matrix(counts, [*CLASSES, "nothing"], [*CLASSES, "missed"], ("truth", "prediction"))
    caption = "Truth (rows) by what it was taken for; the last row counts predictions where nothing is."
    return Section("Confusion", text, (), [Picture("confusion.png", caption, data)])


def _mistakes(done: Evaluation, root: Path, index: FrameIndex, frames: np.ndarray) -> list[Section]:
    sections = []
    for missed, title in ((False, "Worst false positives"), (True, "Worst misses")):
        found = (worst_misses if missed else worst_false_positives)(done, _MISTAKES)
        pictures = mistake_pictures(done, found, missed, index, frames, root)
        what = "boxes of the truth that no threshold matches, most points first"
        if not missed:
            what = "predictions that match nothing at any threshold, highest score first"
        text = f"The {len(found)} worst: {what}. The box in question in colour, truth white and dashed."
        lines = [[describe(done, m, missed, index.scenes[index.scene[frames[m.sample]]])] for m in found]
        sections.append(Section(title, text, [Table("", ["what"], lines)], pictures, gallery=True))
    return sections
