"""Cells of the bird's-eye view."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.geometry.bev_grid import BEVGrid

GRID = BEVGrid((-8.0, 8.0, 0.5), (-4.0, 12.0, 1.0), (-2.0, 2.0, 2.0))


def test_centres_are_in_their_own_cells() -> None:
    assert GRID.shape == (2, 16, 32)
    centers = GRID.centers_m()
    index, inside = GRID.flat_index(torch.cat([centers, torch.full((16, 32, 1), 0.3)], -1))
    assert bool(inside.all())
    torch.testing.assert_close(index, 16 * 32 + torch.arange(16 * 32).reshape(16, 32))
    assert centers[0, 0].tolist() == [-7.75, -3.5]


# Sixty-fourths are exact in every step, so that rounding cannot move a point over an edge.
exact = st.integers(-1280, 1280).map(lambda i: i / 64)


@given(exact, exact, exact)
@settings(max_examples=100, deadline=None)
def test_a_point_is_in_the_cell_that_holds_it(x: float, y: float, z: float) -> None:
    point = torch.tensor([x, y, z], dtype=torch.float64)
    index, inside = GRID.flat_index(point)
    held = -8 <= x < 8 and -4 <= y < 12 and -2 <= z < 2
    assert bool(inside) == held
    if held:
        iz, rest = divmod(int(index), 16 * 32)
        iy, ix = divmod(rest, 32)
        low = torch.tensor([-8 + 0.5 * ix, -4 + iy, -2 + 2.0 * iz])
        assert bool(((point >= low) & (point < low + torch.tensor([0.5, 1.0, 2.0]))).all())


def test_edges_and_refusals() -> None:
    _, inside = GRID.flat_index(torch.tensor([[-8.0, -4, -2], [8.0, 0, 0], [0, 12.0, 0], [0, 0, 2.0]]))
    assert inside.tolist() == [True, False, False, False]
    for axis in ((0.0, 1.0, 0.3), (1.0, 1.0, 0.5), (0.0, 1.0, -0.5)):
        with pytest.raises(ValueError, match=r"BEVGrid\.y_m .* is not a whole number of cells"):
            BEVGrid((0, 1, 1), axis, (0, 1, 1))
