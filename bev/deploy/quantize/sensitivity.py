"""What each layer's eight bits cost: the error of the network's outputs with that layer alone in int8."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bev.deploy.quantize.qdq import Quantized
from bev.deploy.quantize.ranges import Frames, run, session

Measure = Callable[[Any], float]


@dataclass(frozen=True)
class Sensitivity:
    """One row of the table.

    Attributes:
        layer: its name.
        cost: of its int8, by the measure: 0 is none.
        weight_bytes: of its weights in float32.
    """

    layer: str
    cost: float
    weight_bytes: int


def sensitivities(
    quantized: Quantized, measure: Measure, progress: Callable[[int, int], None] | None = None
) -> list[Sensitivity]:
    """Every layer by falling cost.

    Args:
        quantized: the graph.
        measure: cost of a ``ModelProto``: :class:`OutputError`, or e.g. the AP that it loses.
        progress: told how many of how many are done.
    """
    rows = []
    for index, layer in enumerate(quantized.layers):
        rows.append(Sensitivity(layer.name, measure(quantized.only(layer.name)), layer.weight_bytes))
        if progress is not None:
            progress(index + 1, len(quantized.layers))
    return sorted(rows, key=lambda row: -row.cost)


class OutputError:
    """Relative squared error of what the network hands to its post-processing, mean over the outputs.

    Entry by entry, before candidates are chosen: after the choice rows change places, and then every number differs.

    Args:
        quantized: gives the float32 graph and its boundary.
        frames: few are enough.
    """

    def __init__(self, quantized: Quantized, frames: Frames) -> None:
        self.names = quantized.network.boundary()
        self.frames = [dict(frame) for frame in frames]
        self.reference = self._outputs(quantized.model)

    def __call__(self, model: Any) -> float:
        """Cost of a graph: 0 for the same outputs, 1 where the error is as large as the outputs."""
        given = self._outputs(model)
        total = {name: 0.0 for name in self.names}
        size = dict(total)
        for reference, found in zip(self.reference, given):
            for name in self.names:
                a, b = reference[name].astype(np.float64), found[name].astype(np.float64)
                total[name] += float(((a - b) ** 2).sum())
                size[name] += float((a**2).sum())
        return float(np.mean([total[name] / max(size[name], 1e-30) for name in self.names]))

    def _outputs(self, model: Any) -> list[dict[str, np.ndarray]]:
        probe = type(model)()
        probe.CopyFrom(model)
        known = {value.name for value in probe.graph.output}
        value_info = type(probe.graph.output[0])
        probe.graph.output.extend(value_info(name=name) for name in self.names if name not in known)
        ready = session(probe)
        return [run(ready, frame, self.names) for frame in self.frames]


def write_sensitivities(rows: Sequence[Sensitivity], path: str | Path) -> None:
    """The table as ``path`` (JSON) and, beside it, as Markdown."""
    lines = ["| layer | cost of int8 | weights, kB |", "|---|---|---|"]
    lines += [f"| {row.layer} | {row.cost:.2e} | {row.weight_bytes / 1e3:.1f} |" for row in rows]
    Path(path).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    Path(path).with_suffix(".md").write_text("\n".join(lines) + "\n")
