"""Which frame comes when: a pure function of the seed and the position in the run.

A training run reads one endless stream of draws. Position p of the stream is frame ``permutation(epoch)[p % length]``
of epoch ``p // length``; nothing else enters, so that a run resumed at any step, with any number of workers or
processes, reads the same frames. With P processes, micro-batch m of B frames a process covers the positions
``[m * P * B, (m + 1) * P * B)``, of which rank r takes the r-th slice: P processes read exactly what one process reads
at P times the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from bev.data.draw import Draw
from bev.registry import DATASETS


class StreamSampler(Protocol):
    """What the training loop needs of a sampler."""

    start: int

    def __iter__(self) -> Iterator[list[Draw]]: ...


@DATASETS.register_module()
class EndlessSampler(Sampler[list[Draw]]):
    """Batches of draws for one process, without end.

    Args:
        length: number of frames of the data set.
        batch_size: frames a process and micro-batch (B).
        seed: of the run.
        shuffle: a new permutation every epoch; False reads in order.
        weights: one non-negative number a frame: every epoch draws ``length`` frames with replacement in proportion
            to them (class-balanced sampling). None draws every frame once.
        rank, world_size: this process of how many.

    Raises:
        ValueError: an empty data set, or weights of another length, negative or all zero.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        weights: Sequence[float] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if length < 1 or batch_size < 1:
            raise ValueError(f"cannot draw batches of {batch_size} from a data set of {length} frames")
        self.length, self.batch_size, self.seed, self.shuffle = length, batch_size, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.start = 0  # first micro-batch to yield; a resumed run sets it
        self._probability = _normalised(weights, length)

    def __iter__(self) -> Iterator[list[Draw]]:
        batch = self.start
        epoch, order = -1, np.empty(0, np.int64)
        while True:
            draws = []
            first = (batch * self.world_size + self.rank) * self.batch_size
            for position in range(first, first + self.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = self.order(epoch)
                offset = position % self.length
                seeds = (self.seed, epoch, offset), (self.seed, batch)
                draws.append(Draw(int(order[offset]), *seeds, starts=True, epoch=epoch))
            yield draws
            batch += 1

    def order(self, epoch: int) -> np.ndarray:
        """(length,) int64 frame indices of one epoch."""
        generator = np.random.default_rng((self.seed, epoch))
        if self._probability is not None:
            return generator.choice(self.length, self.length, p=self._probability)
        return generator.permutation(self.length) if self.shuffle else np.arange(self.length)


@DATASETS.register_module()
class EvalSampler(Sampler[list[Draw]]):
    """Every frame once, in order; rank r of P takes the r-th contiguous slice.

    Slices differ in length by at most one and nothing is repeated: joined in the order of ranks, the results are those
    of one process, and the frames of a recording stay together.
    """

    def __init__(self, length: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.batch_size, self.seed = batch_size, seed
        self.first, self.last = length * rank // world_size, length * (rank + 1) // world_size

    def __iter__(self) -> Iterator[list[Draw]]:
        for begin in range(self.first, self.last, self.batch_size):
            stop = min(begin + self.batch_size, self.last)
            yield [Draw(index, (self.seed, 0, index), starts=True) for index in range(begin, stop)]

    def __len__(self) -> int:
        return -(-(self.last - self.first) // self.batch_size)


def _normalised(weights: Sequence[float] | None, length: int) -> np.ndarray | None:
    if weights is None:
        return None
    values = np.asarray(weights, np.float64)
    if values.shape != (length,) or not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise ValueError(f"sampler weights must be {length} non-negative numbers, not all zero; got {values.shape}")
    return values / values.sum()
