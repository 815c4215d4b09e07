"""Mistakes that a submission shows: read otherwise, the same numbers would score much better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from bev.data.checks import Finding
from bev.data.checks.inspect import spread
from bev.data.checks.readings import AS_READ, READINGS, Reading
from bev.data.checks.table import BoxTable, box_table
from bev.data.frame_index import FrameIndex
from bev.engine.check_data.scores import PresentScores, present_scores
from bev.evaluation.nuscenes.columns import BoxColumns, truth_columns
from bev.evaluation.nuscenes.evaluate import Evaluation, evaluate_columns
from bev.evaluation.nuscenes.filters import Surroundings, surroundings_of
from bev.evaluation.nuscenes.read import read_columns
from bev.geometry.rotations import matrix_from_quaternion, quaternion_from_yaw, yaw_from_matrix
from bev.io import FileError
from bev.structures.conventions import CLASSES

MAX_FRAMES, BEST_BOXES = 120, 80
# Another reading is believed from so much more NDS on; turning a good result otherwise only makes it worse.
_GAIN = 0.03
# Sizes and headings of mmdet3d < 1.0 read as those of 1.x give these (bev.structures.conventions).
_FINGERPRINT_ASE, _FINGERPRINT_AOE, _MIN_AP = (0.65, 0.85), 1.2, 0.02
_HALF_HEIGHT, _MIN_MATCHES = (0.35, 0.65), 10
_ORDER_GAIN = 0.25  # so many more labels must agree in another order


def check_predictions(results: str | Path, index: FrameIndex) -> tuple[PresentScores, list[Finding]]:
    """Score a submission and look for the fingerprints of known mistakes.

    At most 120 of its frames, spread evenly, and the best 80 boxes of each are used.

    Args:
        results: nuScenes submission.
        index: of the data set it was made for; frames that the submission lacks are left out.

    Raises:
        FileError: the file cannot be used, or none of its frames is in the data set.
    """
    predicted, tokens = read_columns(results)
    known = np.array([i for i, token in enumerate(tokens) if token in index.frame_of], np.int64)
    if not len(known):
        raise FileError(f"{results}: none of its {len(tokens)} samples is in this data set")
    chosen = spread(known, MAX_FRAMES).tolist()
    frames = [index.frame_of[tokens[i]] for i in chosen]
    predicted = _best(predicted.of_samples({old: new for new, old in enumerate(chosen)}))
    judge = _Judge(index, frames, [tokens[i] for i in chosen])
    as_read = judge.evaluate(predicted)
    findings = [*_readings(judge, predicted, as_read), *_heights(as_read), *_classes(as_read, predicted)]
    return present_scores(as_read), findings


def _best(boxes: BoxColumns) -> BoxColumns:
    """The best boxes of each sample, in the file's order."""
    order = np.lexsort((-boxes.score, boxes.sample))
    first = np.searchsorted(boxes.sample[order], boxes.sample[order])
    rank = np.arange(len(order)) - first
    return boxes[np.sort(order[rank < BEST_BOXES])]


class _Judge:
    """Scores boxes of some frames, as they are and read otherwise."""

    def __init__(self, index: FrameIndex, frames: list[int], tokens: Sequence[str]) -> None:
        self.truth: BoxColumns = truth_columns(index, frames)
        self.surroundings: Surroundings = surroundings_of(index, frames)
        self.tokens, self.frames = tokens, box_table(index, frames)

    def evaluate(self, predicted: BoxColumns) -> Evaluation:
        return evaluate_columns(self.truth, predicted, self.surroundings, self.tokens)

    def read(self, boxes: BoxColumns, reading: Reading) -> BoxColumns:
        """Global boxes as they would be if this reading is what was meant."""
        in_lidar = self._table(boxes).moved(np.linalg.inv(self.frames.global_from_lidar))
        meant = reading.apply(in_lidar).moved(self.frames.global_from_lidar)
        rotation = quaternion_from_yaw(torch.from_numpy(meant.yaw_rad)).numpy()
        velocity = meant.velocity_mps[:, :2]
        return replace(
            boxes, center_m=meant.center_m, size_m=meant.size_m, rotation=rotation, velocity_mps=velocity
        )

    def _table(self, boxes: BoxColumns) -> BoxTable:
        """Boxes in the global frame."""
        count = len(boxes)
        return replace(
            self.frames,
            row=boxes.sample.astype(np.int64),
            center_m=boxes.center_m,
            size_m=boxes.size_m,
            yaw_rad=yaw_from_matrix(matrix_from_quaternion(torch.from_numpy(boxes.rotation.copy()))).numpy(),
            velocity_mps=np.concatenate([boxes.velocity_mps, np.zeros((count, 1))], 1),
            label=boxes.label.astype(np.int64),
            num_lidar_pts=np.ones(count, np.int64),
            num_points=np.ones(count, np.int64),
            track=np.full(count, -1),
        )


def _readings(judge: _Judge, predicted: BoxColumns, as_read: Evaluation) -> list[Finding]:
    given = present_scores(as_read)
    options = []
    for reading in READINGS:
        if reading is not AS_READ:
            options.append((present_scores(judge.evaluate(judge.read(predicted, reading))), reading))
    best, reading = max(options, key=lambda option: np.nan_to_num(option[0].nds))
    if best.nds - given.nds > _GAIN:
        text = f"The predictions fit {reading.meaning}: {best} instead of {given}"
        return [Finding(name, text) for name in reading.mistakes]
    low, high = _FINGERPRINT_ASE
    errors = given.errors
    if given.mean_ap > _MIN_AP and low <= errors.get("ASE", 0) <= high and errors.get("AOE", 0) > _FINGERPRINT_AOE:
        text = f"mASE {errors['ASE']:.2f} with mAOE {errors['AOE']:.2f} is the fingerprint of boxes of mmdet3d < 1.0"
        return [Finding(name, f"{text} that were read as those of 1.x") for name in ("size_order", "yaw_convention")]
    return []


def _heights(done: Evaluation) -> list[Finding]:
    """NDS does not look at heights, so a shift by half a height shows in no score."""
    row = done.matched[done.settings.thresholds_m.index(done.settings.error_threshold_m)]
    found = row >= 0
    if found.sum() < _MIN_MATCHES:
        return []
    truth = done.truth[row[found]]
    shift = np.median((done.predicted.center_m[found, 2] - truth.center_m[:, 2]) / truth.size_m[:, 2])
    low, high = _HALF_HEIGHT
    if not low < abs(shift) < high:
        return []
    meant = "centres of the bottom faces" if shift < 0 else "half a height too high"
    return [Finding("box_height", f"matched predictions lie {shift:+.2f} of their height off: {meant}")]


def _classes(done: Evaluation, predicted: BoxColumns) -> list[Finding]:
    """Confident predictions that stand on objects, but whose labels agree only if they are numbered otherwise."""
    met = _labels_met(done, predicted)
    own = float(np.trace(met)) / max(met.sum(), 1)
    label, other = linear_sum_assignment(met, maximize=True)
    best = float(met[label, other].sum()) / max(met.sum(), 1)
    if met.sum() < _MIN_MATCHES or best - own < _ORDER_GAIN:
        return []
    moved = [(a, b) for a, b in zip(label, other) if a != b and met[a, b] > 0]
    text = ", ".join(f"{CLASSES[a]} stands where {CLASSES[b]} is" for a, b in moved)
    told = f"{own:.0%} of {int(met.sum())} confident predictions have the label of the object they stand on"
    return [Finding("class_order", f"{told}, {best:.0%} would if numbered otherwise: {text}")]


def _labels_met(done: Evaluation, predicted: BoxColumns) -> np.ndarray:
    """(10, 10) counts: label of a prediction, label of the nearest object within a metre."""
    met = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for sample in np.unique(done.truth.sample):
        truth = done.truth[done.truth.sample == sample]
        rows = np.flatnonzero(predicted.sample == sample)
        rows = rows[np.argsort(-predicted.score[rows], kind="stable")[: 2 * len(truth)]]
        if not len(rows):
            continue
        apart = np.linalg.norm(predicted.center_m[rows, None, :2] - truth.center_m[None, :, :2], axis=-1)
        close = apart.min(1) < 1.0
        np.add.at(met, (predicted.label[rows][close], truth.label[apart.argmin(1)][close]), 1)
    return met
