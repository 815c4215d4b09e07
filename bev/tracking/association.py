"""Which detection belongs to which track."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

Pairs = tuple[np.ndarray, np.ndarray]


def hungarian(cost: np.ndarray) -> Pairs:
    """The pairs with the least sum of costs among those that are allowed, as many pairs as possible first.

    Args:
        cost: (N, M) of N tracks and M detections, inf where a pair is forbidden; may be negative.

    Returns:
        Rows and columns of the K pairs, (K,) int64 each, rows ascending. Kuhn (1955), by scipy's solver.

    Raises:
        ValueError: a cost is NaN.
    """
    if np.isnan(cost).any():
        raise ValueError("a cost of association is NaN")
    allowed = np.isfinite(cost)
    if not allowed.any():
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # A forbidden pair must cost more than any exchange of allowed ones can gain.
    span = np.ptp(cost[allowed]) + 1
    rows, columns = linear_sum_assignment(np.where(allowed, cost, cost[allowed].max() + span * min(cost.shape)))
    kept = allowed[rows, columns]
    return rows[kept].astype(np.int64), columns[kept].astype(np.int64)


def greedy(cost: np.ndarray) -> Pairs:
    """The cheapest pair, then the cheapest of the rest, and so on; of equal ones the lower row, then column, first.

    Arguments, returns and raises as :func:`hungarian`.
    """
    if np.isnan(cost).any():
        raise ValueError("a cost of association is NaN")
    order = np.argsort(cost, axis=None, kind="stable")
    order = order[: np.isfinite(cost).sum()]
    rows, columns = np.unravel_index(order, cost.shape)
    free_row, free_column = np.ones(cost.shape[0], bool), np.ones(cost.shape[1], bool)
    pairs = []
    for r, c in zip(rows.tolist(), columns.tolist()):
        if free_row[r] and free_column[c]:
            free_row[r] = free_column[c] = False
            pairs.append((r, c))
    found = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


METHODS = {"hungarian": hungarian, "greedy": greedy}
