"""Measured times of the stages of a loop: medians and tails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class StageTimes:
    """Collects milliseconds by stage, frame by frame.

    Args:
        warm_up: first frames that are left out: they load kernels, make buffers and tables.
    """

    def __init__(self, warm_up: int = 1) -> None:
        self.warm_up, self.frames = warm_up, 0
        self._values: dict[str, list[float]] = {}

    def add(self, times_ms: Mapping[str, float]) -> None:
        """One frame's."""
        self.frames += 1
        if self.frames > self.warm_up:
            for stage, value in times_ms.items():
                self._values.setdefault(stage, []).append(float(value))

    def rows(self) -> list[dict[str, Any]]:
        """A row a stage: ``stage``, ``frames``, ``mean_ms``, ``p50_ms``, ``p90_ms``, ``p99_ms``, ``max_ms``."""
        found = []
        for stage, values in self._values.items():
            tails = dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values()))))
            numbers = {"mean": float(np.mean(values)), **tails, "max": max(values)}
            found.append(
                {"stage": stage, "frames": len(values), **{f"{k}_ms": round(float(v), 4) for k, v in numbers.items()}}
            )
        return found

    def text(self) -> str:
        """For people: a table, or that there were too few frames."""
        rows = self.rows()
        if not rows:
            return f"no times: {self.frames} frames, of which the first {self.warm_up} only warm up"
        names = ("mean_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms")
        lines = [f"{'ms per frame':16s}" + "".join(f"{name[:-3]:>10s}" for name in names)]
        lines += [f"{row['stage']:16s}" + "".join(f"{row[name]:10.2f}" for name in names) for row in rows]
        return "\n".join([*lines, f"{rows[0]['frames']} frames after {self.warm_up} to warm up"])
