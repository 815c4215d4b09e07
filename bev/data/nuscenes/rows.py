"""What the builders of columns share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch

from bev.data.nuscenes.tables import Lookup, RecordError
from bev.geometry.transforms import rigid_from_quaternion

Columns = dict[str, Any]
# No place on earth is farther from another, and float32 still tells sizes of it apart.
MAX_M = 1e7


@dataclass(frozen=True)
class Frames:
    """The key frames in the index's order."""

    rows: list[Any]
    lookup: Lookup  # sample token -> frame

    @cached_property
    def tokens(self) -> list[str]:
        """Of the frames' samples, in their order."""
        return [row.token for row in self.rows]

    @cached_property
    def timestamp_us(self) -> np.ndarray:
        """(F,) int64."""
        return np.array([row.timestamp for row in self.rows], np.int64)


def neighbours(lookup: Lookup, tokens: list[str], others: list[str], field: str) -> np.ndarray:
    """(n,) int32 row of each neighbour's token; -1 for the empty token."""
    neighbours = np.full(len(tokens), -1, np.int32)
    present = [i for i, other in enumerate(others) if other]
    neighbours[present] = lookup.rows([others[i] for i in present], [tokens[i] for i in present], field)
    return neighbours


def refuse(wrong: np.ndarray, name: str, tokens: Sequence[str], problem: str) -> None:
    """Raise RecordError naming the first record that is ``wrong``, an (n,) mask."""
    if wrong.any():
        raise RecordError(f"table {name}: record {tokens[int(wrong.argmax())]} {problem}")


def numbers(values: Sequence[Sequence[float]], width: int) -> np.ndarray:
    """(n, width) float64 of n tuples; twice as fast as ``np.array`` of them."""
    return np.fromiter(chain.from_iterable(values), np.float64, len(values) * width).reshape(len(values), width)


def is_unit(quaternion: np.ndarray) -> np.ndarray:
    """(n, 4) -> (n,) bool, with room for rounded numbers."""
    with np.errstate(over="ignore"):
        return abs(np.linalg.norm(quaternion, axis=1) - 1) <= 1e-2


def pose_matrices(name: str, tokens: Sequence[str], quaternion: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    """(n, 4, 4) of n pose records; refuses one that is not finite or whose (n, 4) quaternion is no rotation."""
    wrong = ~(np.isfinite(quaternion).all(1) & np.isfinite(translation_m).all(1))
    refuse(wrong, name, tokens, "holds a NaN or infinite value")
    refuse((abs(translation_m) > MAX_M).any(1), name, tokens, f"has a translation beyond {MAX_M:g} m")
    refuse(~is_unit(quaternion), name, tokens, "has a rotation that is no unit quaternion")
    return rigid_from_quaternion(torch.from_numpy(quaternion), torch.from_numpy(translation_m)).numpy()
