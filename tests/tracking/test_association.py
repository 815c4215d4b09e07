"""Association against hand-made cases and against trying everything."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bev.tracking.association import greedy, hungarian


def _pairs(found: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, int]]:
    return list(zip(*(side.tolist() for side in found)))


def test_the_nearest_pair_may_cost_more_in_all() -> None:
    cost = np.array([[1.0, 2.0], [2.0, 10.0]])
    assert _pairs(greedy(cost)) == [(0, 0), (1, 1)]
    assert _pairs(hungarian(cost)) == [(0, 1), (1, 0)]


def test_forbidden_pairs() -> None:
    cost = np.array([[1.0, 5.0], [2.0, np.inf]])
    assert _pairs(hungarian(cost)) == [(0, 1), (1, 0)]  # two pairs for 7 rather than one for 1
    assert _pairs(greedy(cost)) == [(0, 0)]
    for method in (hungarian, greedy):
        assert _pairs(method(np.full((2, 3), np.inf))) == []
        assert _pairs(method(np.zeros((0, 3)))) == [] and _pairs(method(np.zeros((3, 0)))) == []
        with pytest.raises(ValueError, match="is NaN"):
            method(np.array([[np.nan]]))


def test_equal_costs_go_to_the_lower_row_then_column() -> None:
    assert _pairs(greedy(np.ones((2, 3)))) == [(0, 0), (1, 1)]


@settings(max_examples=150, deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.integers(-9, 9).map(float)),
    st.integers(0, 2**16 - 1),
)
def test_hungarian_is_the_best_of_all(cost: np.ndarray, forbidden: int) -> None:
    """Most pairs first, then the least sum."""
    bits = [bool(forbidden >> k & 1) for k in range(cost.size)]
    cost = np.where(np.array(bits).reshape(cost.shape), np.inf, cost)
    rows, columns = cost.shape
    best = (0, 0.0)
    for order in permutations(range(max(rows, columns)), min(rows, columns)):
        pairs = zip(range(rows), order) if rows <= columns else zip(order, range(columns))
        values = [cost[pair] for pair in pairs if np.isfinite(cost[pair])]
        best = min(best, (-len(values), sum(values)))
    found = _pairs(hungarian(cost))
    assert len({r for r, _ in found}) == len({c for _, c in found}) == len(found)
    assert (-len(found), sum(cost[pair] for pair in found)) == best
