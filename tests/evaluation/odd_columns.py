"""Boxes of few and odd values: distances exactly on thresholds and ranges, duplicates, half-known velocities, tiny and
huge sizes, quaternions far from unit length, scores above 1, predictions that claim to have no points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bev.evaluation.nuscenes.columns import BoxColumns
from bev.evaluation.nuscenes.filters import Surroundings

_OFFSETS = (0.0, 0.5, 1.0, 2.0, 4.0, 3.0, 1e-9, 29.999999999, 30.0, 40.0, 49.999999999999, 50.0)
_SCORES = (0.0, 1e-300, 0.1, 0.25, 0.3, 0.5, 0.5, 1.0, 1.0, 2.0)
_QUATERNION = (0.0, 1.0, -1.0, 0.5, 1e-9, 0.70710678118, 1e100, 1e-100)


def odd_case(seed: int) -> tuple[BoxColumns, BoxColumns, Surroundings, int]:
    """Truth, predictions, surroundings, and how many samples there are."""
    rng = np.random.default_rng(seed)
    samples, few = int(rng.integers(1, 5)), bool(rng.random() < 0.5)
    truth = _odd_boxes(rng, samples, int(rng.choice([0, 1, 3, 10, 40])), few, predicted=False)
    predicted = _odd_boxes(rng, samples, int(rng.choice([0, 1, 4, 20, 60])), few, predicted=True)
    racks = int(rng.choice([0, 0, 1, 3]))
    upright = np.tile([1.0, 0, 0, 0], (racks, 1))
    rotation = upright if rng.random() < 0.5 else _pick(rng, (0.5, 1.0, -0.3), (racks, 4))
    sample = np.sort(rng.integers(samples, size=racks)).astype(np.int32)
    center, size = _pick(rng, (0.0, 1.0, 2.0), (racks, 3)), _pick(rng, (1.0, 2.0, 4.0), (racks, 3))
    surroundings = Surroundings(_pick(rng, (0.0, 0.0, 1e-3), (samples, 3)), sample, center, size, rotation)
    return truth, predicted, surroundings, samples


def _pick(rng: np.random.Generator, values: Sequence[float], shape: int | tuple[int, ...]) -> np.ndarray:
    return np.array(values)[rng.integers(len(values), size=shape)]


def _odd_boxes(rng: np.random.Generator, samples: int, count: int, few: bool, predicted: bool) -> BoxColumns:
    plane = _pick(rng, _OFFSETS, (count, 2)) * _pick(rng, (1, -1), (count, 2))
    if rng.random() < 0.5:
        plane = plane + _pick(rng, (0.0, 0.5, -0.5, 2.0, 0.1, 0.3), (count, 2))
    rotation = _pick(rng, _QUATERNION, (count, 4))
    rotation[~rotation.any(1)] = [1, 0, 0, 0]
    score = _pick(rng, _SCORES if rng.random() < 0.9 else (0.5,), count)
    points = _pick(rng, (-1, -1, -1, 0) if predicted else (0, 1, 5), count)
    return BoxColumns(
        np.sort(rng.integers(samples, size=count)).astype(np.int32),
        _pick(rng, (0, 5, 6, 7, 9) if few else range(10), count).astype(np.int8),
        np.column_stack([plane, _pick(rng, (0.0, 1.0, 100.0), count)]),
        _pick(rng, (1.0, 2.0, 0.5, 3.3, 1e-5, 1e5, 1e-150), (count, 3)),
        rotation,
        _pick(rng, (0.0, 1.0, -3.3, np.nan, 1e-300, 1e150), (count, 2)),
        score if predicted else np.full(count, -1.0),
        _pick(rng, range(-1, 8), count).astype(np.int8),
        points.astype(np.int32),
        np.arange(count),
    )
