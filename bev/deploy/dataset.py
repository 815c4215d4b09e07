"""What an export costs in the metric that counts: the detector and its file on the same test frames, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bev.deploy.build import load_detector
from bev.deploy.graph_detector import GraphDetector, TemporalGraphDetector
from bev.deploy.parity import compare_boxes
from bev.engine.api import prepare, test
from bev.models.detectors.temporal import TemporalDetector


@dataclass(frozen=True)
class DatasetReport:
    """Scores of a detector and of its graph.

    Attributes:
        torch, graph: metrics by name.
        frames: that both saw.
        boxes: of the detector in all frames.
        unmatched: boxes of either side without a partner of its class, place and score.
    """

    torch: dict[str, float]
    graph: dict[str, float]
    frames: int
    boxes: int
    unmatched: int

    @property
    def largest(self) -> float:
        """Largest difference of any metric that both have."""
        pairs = [(value, self.graph[name]) for name, value in self.torch.items() if name in self.graph]
        return max((abs(a - b) for a, b in pairs if not (math.isnan(a) and math.isnan(b))), default=0.0)

    def text(self) -> str:
        """For people: a table, metrics of whole data sets first."""
        lines = [f"{self.frames} frames, {self.boxes} boxes, {self.unmatched} of either side without a partner"]
        width = max(map(len, self.torch), default=6)
        lines.append(f"{'metric':{width}s} {'torch':>10s} {'graph':>10s} {'difference':>11s}")
        for name in sorted(self.torch, key=lambda name: (name.count("/"), name.count("_"), name)):
            a, b = self.torch[name], self.graph.get(name, math.nan)
            lines.append(f"{name:{width}s} {a:10.4f} {b:10.4f} {b - a:+11.1e}")
        return "\n".join(lines)


def compare_on_dataset(
    config: Any, checkpoint: str | Path, path: str | Path, work_dir: str | Path
) -> DatasetReport:
    """Predict the test frames of a configuration twice, from the files' own pixels to boxes, and score both.

    Args:
        config: with ``test_dataloader`` and ``test_evaluator``; changed by ``prepare``.
        checkpoint: weights, as ``load_detector`` takes them.
        path: graph of that detector, its calibration an input.
        work_dir: for logs.

    Raises:
        ExportError: a graph that cannot be scored.
        ConfigError: the configuration names no test frames or no metric.
    """
    prepare(config, str(work_dir))
    config.custom_hooks = []  # of training: averages of weights, pictures
    model: Any = load_detector(config, checkpoint)
    results: list[tuple[dict[str, Any], dict[str, float]]] = []
    for detector in (model, _written(path, model)):
        found: dict[str, Any] = {}

        def keep(batch: Any, boxes: Any, found: dict[str, Any] = found) -> None:
            found.update(zip(batch.tokens, boxes))

        metrics = test(config, str(checkpoint), on_result=keep, detector=detector)
        numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float))}
        results.append((found, numbers))
    (ours, scores), (theirs, others) = results
    return DatasetReport(scores, others, len(ours), *_paired(ours, theirs))


def _written(path: str | Path, model: nn.Module) -> GraphDetector:
    if isinstance(model, TemporalDetector) and model.remembers:
        return TemporalGraphDetector(path, model)
    return GraphDetector(path)


def _paired(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[int, int]:
    """Boxes in all frames, and how many of either side have no partner; cells are not counted."""
    pairs = [(ours[token], theirs[token]) for token in ours if not isinstance(ours[token], Tensor)]
    agreements = [compare_boxes(a, b) for a, b in pairs]
    return sum(a.count for a in agreements), sum(a.unmatched for a in agreements)
