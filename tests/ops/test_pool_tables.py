"""Pooling by tables equals the plain form, whatever the number of points a cell has."""

from __future__ import annotations

import pytest
import torch

from bev.ops.bev_pool import _bev_pool_reference, bev_pool, plan_pool
from bev.ops.pool_tables import pool_tables


@pytest.mark.parametrize("most", [0, 1, 8, 9, 128, 129, 4000])
def test_equals_the_plain_form(most: int) -> None:
    """One cell with ``most`` points, so that every stage of the tree has its turn; others with few or none."""
    generator = torch.Generator().manual_seed(most)
    rows, bins, cells = 700, 6, 40
    cell = torch.randint(1, cells - 1, (rows, bins), generator=generator)
    cell.view(-1)[torch.randperm(rows * bins, generator=generator)[:most]] = 0
    inside = torch.rand(rows, bins, generator=generator) > 0.3
    inside |= cell == 0
    depth = torch.rand(rows, bins, generator=generator, dtype=torch.float64)
    features = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
    plan = plan_pool(cell, inside, cells)
    tables = pool_tables(*plan[:3])
    assert min(len(table) for table in tables[:3]) >= 2
    torch.testing.assert_close(bev_pool(depth, features, tables), _bev_pool_reference(depth, features, plan))


def test_nothing_inside() -> None:
    plan = plan_pool(torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, 3, dtype=torch.bool), 5)
    assert not bev_pool(torch.ones(4, 3), torch.ones(4, 2), pool_tables(*plan[:3])).any()


def test_one_table_for_several_frames() -> None:
    cell = torch.randint(0, 9, (20, 4), generator=torch.Generator().manual_seed(0))
    plan = plan_pool(cell, cell < 8, 9)
    depth, features = torch.rand(40, 4), torch.randn(40, 3)
    pooled = bev_pool(depth, features, pool_tables(*plan[:3])._replace(rows=20))
    for frame in (slice(0, 20), slice(20, 40)):
        expected = bev_pool(depth[frame], features[frame], plan)
        torch.testing.assert_close(pooled.view(2, 9, 3)[frame.start // 20], expected)
