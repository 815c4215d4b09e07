"""PASCAL VOC's average precision: 11-point (until 2009) and all-point (since 2010)."""

from __future__ import annotations

import numpy as np


def precision_recall(score: np.ndarray, is_match: np.ndarray, positives: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall, (n,) each, of n detections with their scores, best first; equal scores keep their order."""
    order = np.argsort(-score, kind="stable")
    true = np.cumsum(is_match[order])
    return true / np.arange(1, len(true) + 1), true / max(positives, 1)


def eleven_point(precision: np.ndarray, recall: np.ndarray) -> float:
    """Mean over the recalls 0, 0.1 ... 1 of the best precision at that recall or a higher one."""
    # Recalls are fractions: 3 of 10 must reach 0.3, which no multiple of 0.1 in floating point promises.
    best = [precision[recall >= tenth / 10 - 1e-12].max(initial=0.0) for tenth in range(11)]
    return float(np.mean(best))


def all_point(precision: np.ndarray, recall: np.ndarray) -> float:
    """Area under precision against recall, precision made to fall only."""
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * falling))
