"""What happened in the steps since one last looked."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bev.engine import distributed


class Window:
    """Means over steps. Sums stay on the device until :meth:`means`, so that adding a step does not wait for it."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.steps = 0
        self._sums: dict[str, Tensor] = {}
        self._step_seconds = self._data_seconds = 0.0

    def add(self, outputs: Mapping[str, Any], step_seconds: float, data_seconds: float) -> None:
        """One step: its scalars and times."""
        self.steps += 1
        self._step_seconds += step_seconds
        self._data_seconds += data_seconds
        for name, value in outputs.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def means(self, over_processes: bool = False) -> dict[str, float]:
        """Scalars by name, ``step_s``, ``data_share`` (0..1) and ``memory_mib``; empties the window.

        Args:
            over_processes: average the scalars over the processes; then call it on all of them.
        """
        if not self.steps:
            return {}
        names = list(self._sums)
        values = torch.stack([self._sums[name].detach().float() for name in names]) / self.steps
        if over_processes and distributed.world_size() > 1:
            dist.all_reduce(values)
            values /= distributed.world_size()
        means = dict(zip(names, values.tolist()))
        means["step_s"] = self._step_seconds / self.steps
        means["data_share"] = self._data_seconds / max(self._step_seconds, 1e-9)
        means["memory_mib"] = memory_mib()
        self._clear()
        return means


def memory_mib() -> float:
    """Peak of allocated device memory on CUDA, else this process's resident memory (its peak, but on Linux)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
