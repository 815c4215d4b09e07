"""Frames that could not be read as they are: marked, logged once, counted over all processes."""

from __future__ import annotations

import logging

import numpy as np
import torch

_LOG = logging.getLogger("bev.data")

SKIPPED, BLANKED = 1, 2


class FaultLog:
    """What went wrong with each of F frames.

    The marks lie in shared memory, so that those of a loader's worker processes reach the main process; setting one
    twice changes nothing, so they need no lock.
    """

    def __init__(self, count: int) -> None:
        self._marks = torch.zeros(count, dtype=torch.uint8).share_memory_()

    def mark(self, position: int, fault: int, message: str) -> None:
        """Remember a fault and log it, the first time."""
        if int(self._marks[position]) != fault:
            self._marks[position] = fault
            _LOG.warning(message)

    def positions(self, fault: int) -> list[int]:
        """Positions with that fault, ascending."""
        return np.flatnonzero(self._marks.numpy() == fault).tolist()
