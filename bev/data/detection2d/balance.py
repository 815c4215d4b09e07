"""Pictures repeated so that rare classes are seen more often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def held_classes(labels: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
    """(F, C) bool: picture f, whose objects have the labels ``labels[f]``, holds class c."""
    held = np.zeros((len(labels), num_classes), bool)
    for row, label in zip(held, labels):
        row[label] = True
    return held


def equal_shares(held: np.ndarray, seed: int = 0) -> np.ndarray:
    """Pictures drawn so that every class has equally many draws (CBGS, arXiv 1908.09492).

    Args:
        held: (F, C), see :func:`held_classes`.
        seed: of the draw.

    Returns:
        (K,) int64 pictures, about as many as there are pairs of picture and class; pictures without objects never come.
    """
    present = [c for c in range(held.shape[1]) if held[:, c].any()]
    if not present:
        raise ValueError("class_balance: no picture holds an object of the classes")
    share = int(held.sum()) // len(present)
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.choice(np.flatnonzero(held[:, c]), share) for c in present])


def repeated(held: np.ndarray, threshold: float, seed: int = 0) -> np.ndarray:
    """Pictures repeated by their rarest class (LVIS, CVPR 2019): ``max(1, sqrt(threshold / share of the class))``.

    Args:
        held: (F, C), see :func:`held_classes`.
        threshold: classes in a smaller share of the pictures are repeated.
        seed: decides which pictures are repeated once more for the fractions.

    Returns:
        (K,) int64 pictures; every picture comes at least once.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"class_balance: threshold {threshold} must be in (0, 1]")
    share = np.maximum(held.mean(0), 1e-12)
    of_class = np.maximum(1.0, np.sqrt(threshold / share))
    factor = np.where(held, of_class, 1.0).max(1, initial=1.0)
    whole = np.floor(factor).astype(int)
    extra = np.random.default_rng(seed).random(len(factor)) < factor - whole
    return np.repeat(np.arange(len(factor)), whole + extra)
