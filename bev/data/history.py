"""Which earlier frames a temporal model sees with a frame."""

from __future__ import annotations

import numpy as np


def chosen_history(
    previous: np.ndarray, frame: int, count: int, pool: int | None, rng: np.random.Generator
) -> list[int]:
    """Earlier frames, oldest first.

    Args:
        previous: (F,) frame before each one in its scene, -1 at the start.
        frame: the present one.
        count: how many are wanted.
        pool: of how many previous frames they are drawn, without replacement (BEVFormer's queue); None takes the
            nearest ``count`` and no random number.

    Returns:
        ``count`` frames. Where the scene does not reach back far enough its first frame is repeated, which is the frame
        itself at the very start.
    """
    chain: list[int] = []
    for _ in range(pool or count):
        earlier = int(previous[frame])
        frame = earlier if earlier >= 0 else frame
        chain.insert(0, frame)
    if pool is None:
        return chain
    return [chain[i] for i in sorted(rng.permutation(len(chain))[:count].tolist())]
