"""Random boxes for the evaluator, rich in what is rare: equal scores and distances, unknown values, empty classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bev.evaluation.nuscenes.columns import BoxColumns
from bev.evaluation.nuscenes.filters import Surroundings
from bev.structures.conventions import CLASSES

_BIKES = [CLASSES.index("bicycle"), CLASSES.index("motorcycle")]


def random_case(
    seed: int,
    samples: int = 5,
    boxes: int = 40,
    predictions: int = 60,
    grid_m: float = 0.0,
    score_steps: int = 5,
    classes: tuple[int, ...] = tuple(range(len(CLASSES))),
    unknown: float = 0.2,
    racks: int = 3,
) -> tuple[BoxColumns, BoxColumns, Surroundings]:
    """Ground truth, predictions near it, and surroundings, each sample around an ego position of its own.

    Args:
        seed: of everything.
        samples: S.
        boxes, predictions: how many in all.
        grid_m: centres are rounded to this grid, which makes equal distances; 0: they are not.
        score_steps: scores are rounded to this many steps.
        classes: that occur.
        unknown: share of unknown velocities and attributes.
        racks: bike racks, each over a bicycle or motorcycle of the truth where there is one.
    """
    rng = np.random.default_rng(seed)
    ego = np.round(rng.uniform(-2000, 2000, (samples, 3)), 1)
    truth = _random_boxes(rng, boxes, samples, classes, unknown)
    center = ego[truth.sample] + rng.uniform(-45, 45, (boxes, 3)) * [1, 1, 0.02]
    truth = replace(truth, center_m=_rounded(center, grid_m), num_pts=rng.integers(0, 4, boxes).astype(np.int32))
    predicted = _random_boxes(rng, predictions, samples, classes, unknown)
    center = ego[predicted.sample] + rng.uniform(-45, 45, (predictions, 3)) * [1, 1, 0.02]
    if boxes:
        # Most predictions are a shifted box of the truth, some of another class.
        near = rng.random(predictions) < 0.8
        origin = rng.integers(boxes, size=predictions)
        shifted = truth.center_m[origin] + rng.normal(0, 1.2, (predictions, 3))
        predicted = replace(
            predicted,
            sample=np.where(near, truth.sample[origin], predicted.sample),
            label=np.where(near & (rng.random(predictions) < 0.9), truth.label[origin], predicted.label),
        )
        center = np.where(near[:, None], shifted, center)
    score = np.round(rng.random(predictions) * score_steps) / score_steps
    predicted = replace(predicted, center_m=_rounded(center, grid_m), score=score)
    return truth, _by_sample(predicted), _racks(rng, truth, ego, racks)


def _random_boxes(
    rng: np.random.Generator, count: int, samples: int, classes: tuple[int, ...], unknown: float
) -> BoxColumns:
    velocity = np.round(rng.normal(0, 3, (count, 2)), 2)
    velocity[rng.random(count) < unknown] = np.nan
    rotation = rng.normal(0, 1, (count, 4)) * [1, 0.05, 0.05, 1]
    unit = rng.random(count) < 0.7
    rotation[unit] /= np.linalg.norm(rotation[unit], axis=1, keepdims=True)
    exact = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, -1], [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], [1e-9, 0, 0, 1]])
    plain = rng.random(count) < 0.3
    rotation[plain] = exact[rng.integers(len(exact), size=int(plain.sum()))]
    attribute = np.where(rng.random(count) < unknown, -1, rng.integers(8, size=count)).astype(np.int8)
    return BoxColumns(
        np.sort(rng.integers(samples, size=count)).astype(np.int32),
        np.array(classes, np.int8)[rng.integers(len(classes), size=count)],
        np.zeros((count, 3)),
        np.round(rng.uniform(0.1, 6, (count, 3)), 2),
        rotation,
        velocity,
        np.full(count, -1.0),
        attribute,
        np.full(count, -1, np.int32),
        np.arange(count),
    )


def _rounded(center_m: np.ndarray, grid_m: float) -> np.ndarray:
    return np.round(center_m / grid_m) * grid_m if grid_m else center_m


def _by_sample(boxes: BoxColumns) -> BoxColumns:
    return boxes[np.argsort(boxes.sample, kind="stable")]


def _racks(rng: np.random.Generator, truth: BoxColumns, ego_m: np.ndarray, count: int) -> Surroundings:
    cycles = np.flatnonzero(np.isin(truth.label, _BIKES))
    if not len(cycles) or not count:
        return Surroundings.without_racks(ego_m)
    chosen = np.sort(rng.choice(cycles, count))
    size = np.round(rng.uniform(1, 6, (count, 3)), 1)
    center = truth.center_m[chosen].copy()
    # A rack whose face goes exactly through the centre of a bicycle, turned by nothing or by an odd angle.
    center[::2, 0] += size[::2, 0] / 2
    rotation = truth.rotation[chosen]
    rotation[::2] = [1, 0, 0, 0]
    return Surroundings(ego_m, truth.sample[chosen], center, size, rotation)
