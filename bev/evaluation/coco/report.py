"""The report page of boxes in pictures."""

from __future__ import annotations

from pathlib import Path

from bev.evaluation.coco.evaluate import SUMMARY, CocoEvaluation
from bev.evaluation.report import Picture, Section, Table, write_report
from bev.evaluation.report.plots import panels

# IoU of the drawn curves, by position in ``CocoEvaluation.precision``.
_DRAWN = {"IoU 0.5": 0, "IoU 0.75": 5, "IoU 0.9": 8}
_MOST_PANELS = 20


def write_coco_report(folder: str | Path, done: CocoEvaluation, title: str = "COCO detection") -> Path:
    """Write ``report.html`` (self-contained) and ``report.md`` with its pictures; returns the page's path.

    Raises:
        ImportError: matplotlib is not installed.
    """
    scores = done.scores
    names = [*SUMMARY, "VOC11", "VOC"]
    columns = ["AP", "AP50", "AP75", "VOC11", "VOC", "truth", "predictions"]
    rows = [[name, *(row[c] for c in columns)] for name, row in scores["classes"].items()]
    text = (
        f"{scores['images']} pictures. VOC11 and VOC are AP at IoU 0.5, 11-point and all-point; -1 means that there is "
        "nothing to score."
    )
    tables = [
        Table("", names, [[scores[name] for name in names]]),
        Table("By class", ["class", *columns], rows),
    ]
    return write_report(folder, title, [Section("Scores", text, tables), _curves(done)])


def _curves(done: CocoEvaluation) -> Section:
    """The classes with most boxes: a page of eighty small curves helps no one."""
    classes = done.scores["classes"]
    present = sorted((name for name in classes if classes[name]["truth"]), key=lambda name: -classes[name]["truth"])
    lines = {
        name: {label: (done.recall, done.precision[name][k]) for label, k in _DRAWN.items()}
        for name in present[:_MOST_PANELS]
    }
    if not lines:
        return Section("Precision and recall", "No class has boxes in the truth.")
    text = f"The {len(lines)} classes with most boxes of {len(present)}." if len(present) > len(lines) else ""
    picture = Picture("precision_recall.png", "Precision against recall.", panels(lines, "recall", "precision"))
    return Section("Precision and recall", text, (), [picture])
