"""What a sampler asks a data set for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Draw:
    """One draw of a training run: which frame, and the seed of its augmentation.

    Augmentation depends on this alone, never on a worker's or a process's random state, so that a run resumed at any
    step, with any number of workers, sees the same pictures.

    Attributes:
        index: position in the data set.
        seed: of this draw's augmentation.
        batch_seed: equal for all draws of a batch, for what its samples must have in common (their size).
        starts: the frame has nothing to do with the frame in the same row of the batch before; None: not known.
        epoch: passes over the data set completed before this draw, for augmentation that ends before the run does.
    """

    index: int
    seed: tuple[int, ...]
    batch_seed: tuple[int, ...] = (0,)
    starts: bool | None = None
    epoch: int = 0

    def generator(self) -> np.random.Generator:
        """The random generator of this draw."""
        return np.random.default_rng(self.seed)
