"""Suppression by centre distance against a plain loop."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.ops.circle_nms import circle_nms


def _plain(center, score, group, radius):
    order = sorted(range(len(score)), key=lambda i: (-float(score[i]), i))
    kept = []
    for i in order:
        near = any(group[i] == group[k] and float((center[i] - center[k]).norm()) <= float(radius[k]) for k in kept)
        if not near:
            kept.append(i)
    return kept


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 10_000))
def test_equals_plain_loop(count, seed):
    generator = torch.Generator().manual_seed(seed)
    center = torch.randint(0, 6, (count, 2), generator=generator).float()
    score = torch.randint(0, 4, (count,), generator=generator).float()
    group = torch.randint(0, 2, (count,), generator=generator)
    radius = torch.tensor([1.0, 2.5])[group]
    assert circle_nms(center, score, group, radius).tolist() == _plain(center, score, group, radius)


def test_negative_radius_keeps_everything():
    center = torch.zeros(3, 2)
    kept = circle_nms(center, torch.tensor([0.1, 0.3, 0.2]), torch.zeros(3, dtype=torch.int64), torch.full((3,), -1.0))
    assert kept.tolist() == [1, 2, 0]


def test_opcheck():
    center, group = torch.tensor([[0.0, 0], [1, 0], [5, 5]]), torch.zeros(3, dtype=torch.int64)
    torch.library.opcheck(torch.ops.bev.circle_nms.default, (center, torch.rand(3), group, torch.ones(3)))
