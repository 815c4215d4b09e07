"""The order of the data is a pure function of the seed and the position."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from bev.data.sampler import EndlessSampler, EvalSampler


def _batches(count: int, start: int = 0, **arguments: object) -> list[list[tuple[int, tuple[int, ...]]]]:
    sampler = EndlessSampler(**arguments)  # type: ignore[arg-type]
    sampler.start = start
    return [[(draw.index, draw.seed) for draw in batch] for batch in islice(sampler, count)]


def test_every_epoch_is_a_permutation_and_batches_run_across_epochs() -> None:
    stream = [index for batch in _batches(7, length=10, batch_size=4) for index, _ in batch]
    assert sorted(stream[:10]) == sorted(stream[10:20]) == list(range(10))
    assert stream[:10] != stream[10:20]


def test_seeds_differ_between_epochs_positions_and_runs() -> None:
    seeds = [seed for batch in _batches(10, length=10, batch_size=4, seed=3) for _, seed in batch]
    assert len(set(seeds)) == 40
    other = [seed for batch in _batches(10, length=10, batch_size=4, seed=4) for _, seed in batch]
    assert not set(seeds) & set(other)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_together_read_the_large_batch(world_size: int) -> None:
    large = _batches(9, length=10, batch_size=2 * world_size)
    ranks = [_batches(9, length=10, batch_size=2, rank=r, world_size=world_size) for r in range(world_size)]
    assert large == [sum((rank[step] for rank in ranks), []) for step in range(9)]


def test_a_start_continues_the_stream() -> None:
    arguments = {"length": 7, "batch_size": 3, "rank": 1, "world_size": 2}
    assert _batches(20, **arguments)[13:] == _batches(7, start=13, **arguments)


def test_in_order_and_weighted() -> None:
    assert [i for b in _batches(3, length=4, batch_size=2, shuffle=False) for i, _ in b] == [0, 1, 2, 3, 0, 1]
    weights = [0.0, 1.0, 3.0, 0.0]
    drawn = [i for b in _batches(2000, length=4, batch_size=2, weights=weights) for i, _ in b]
    share = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(share, [0, 0.25, 0.75, 0], atol=0.03)
    assert _batches(5, length=4, batch_size=2, weights=weights) == _batches(5, length=4, batch_size=2, weights=weights)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [1.0, float("nan"), 1.0]])
def test_bad_weights(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="sampler weights must be 3 non-negative numbers"):
        EndlessSampler(3, 1, weights=weights)


def test_empty_data_set() -> None:
    with pytest.raises(ValueError, match="data set of 0 frames"):
        EndlessSampler(0, 2)


@pytest.mark.parametrize("length", [0, 1, 5, 8])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_reads_every_frame_once_in_order(length: int, world_size: int) -> None:
    samplers = [EvalSampler(length, 2, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [d.index for s in samplers for batch in s for d in batch] == list(range(length))
    assert all(len(list(sampler)) == len(sampler) for sampler in samplers)
