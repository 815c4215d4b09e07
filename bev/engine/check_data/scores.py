"""nuScenes scores over what there is: classes and errors without ground truth are left out, not counted as bad."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bev.evaluation.nuscenes.evaluate import Evaluation
from bev.structures.conventions import CLASSES

_MAP_WEIGHT = 5


@dataclass(frozen=True)
class PresentScores:
    """NDS by its formula, from classes that occur and errors that can be measured.

    Attributes:
        nds, mean_ap: 0..1; NaN where no class occurs.
        errors: mean of each error over these classes: ATE m, ASE 1 - IoU, AOE rad, AVE m/s, AAE 1 - accuracy; those for
            which the source has nothing to compare (velocities, attributes) are missing.
        classes: those that occur.
    """

    nds: float
    mean_ap: float
    errors: dict[str, float]
    classes: tuple[str, ...]

    def __str__(self) -> str:
        errors = "  ".join(f"m{name} {value:.3f}" for name, value in self.errors.items())
        return f"NDS {self.nds:.4f}  mAP {self.mean_ap:.4f}  {errors}  ({len(self.classes)} of 10 classes)"


def present_scores(evaluation: Evaluation) -> PresentScores:
    """Scores of an evaluation over the classes of its ground truth."""
    truth, rows = evaluation.truth, evaluation.scores["classes"]
    classes = tuple(name for i, name in enumerate(CLASSES) if (truth.label == i).any())
    if not classes:
        return PresentScores(np.nan, np.nan, {}, ())
    measurable = {"ATE": True, "ASE": True, "AOE": True}
    measurable["AVE"] = bool(np.isfinite(truth.velocity_mps[:, 0]).any())
    measurable["AAE"] = bool((truth.attribute >= 0).any())
    errors = {}
    for name, possible in measurable.items():
        values = np.array([rows[c][name] for c in classes])
        if possible and np.isfinite(values).any():
            errors[name] = float(np.nanmean(values))
    mean_ap = float(np.mean([rows[c]["AP"] for c in classes]))
    quality = [max(0.0, 1.0 - value) for value in errors.values()]
    nds = (_MAP_WEIGHT * mean_ap + sum(quality)) / (_MAP_WEIGHT + len(quality))
    return PresentScores(nds, mean_ap, errors, classes)
