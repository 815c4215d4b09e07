"""What the builders of columns share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bev.data.nuscenes.tables import Lookup
from bev.io import FileError

Columns = dict[str, Any]


@dataclass(frozen=True)
class Frames:
    """The key frames in the index's order."""

    rows: list[Any]
    lookup: Lookup  # sample token -> frame

    @property
    def tokens(self) -> list[str]:
        return [row.token for row in self.rows]


def neighbours(lookup: Lookup, tokens: list[str], others: list[str], field: str) -> np.ndarray:
    """(n,) int32 row of each neighbour's token; -1 for the empty token."""
    neighbours = np.full(len(tokens), -1, np.int32)
    present = [i for i, other in enumerate(others) if other]
    neighbours[present] = lookup.rows([others[i] for i in present], [tokens[i] for i in present], field)
    return neighbours


def refuse(wrong: np.ndarray, name: str, rows: Sequence[Any], problem: str) -> None:
    """Raise FileError naming the first row that is ``wrong``, an (n,) mask."""
    if wrong.any():
        raise FileError(f"table {name}: record {rows[int(wrong.argmax())].token} {problem}")
