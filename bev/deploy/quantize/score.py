"""Average precision or NDS of a written graph on a configuration's test frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bev.deploy.finish import boxes3d_of, picture_boxes_of
from bev.deploy.quantize.frames import GraphFrames
from bev.registry import METRICS

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def score_graph(config: Any, run: Run, frames: GraphFrames) -> dict[str, Any]:
    """Predict frames with a graph and score them with the configuration's ``test_evaluator``.

    Args:
        config: its first metric is used.
        run: ``OnnxRunner`` or any function of the graph's inputs.
        frames: that are predicted; a metric that names its split is told theirs.

    Returns:
        Metrics by name.
    """
    node = config.test_evaluator if isinstance(config.test_evaluator, Mapping) else config.test_evaluator[0]
    node = {**dict(node), "partial": len(frames) < len(frames.dataset)}
    if "split" in node:
        node["split"] = frames.source["split"]
    metric: Any = METRICS.build(node)
    metric.dataset_meta = frames.dataset.metainfo
    for batch, inputs in frames.batches():
        outputs = run(inputs)
        metric.process(data_batch=batch, data_samples=_boxes(batch, outputs, frames.facts.finish))
    found: dict[str, Any] = metric.compute_metrics(metric.results)
    return found


def main_score(metrics: Mapping[str, Any]) -> float:
    """The one number of a metric: ``NDS`` or ``AP``, 0..1.

    Raises:
        ValueError: it gives neither.
    """
    for name, value in metrics.items():
        if name.rsplit("/")[-1] in ("NDS", "AP"):
            return float(value)
    raise ValueError(f"the metric gives neither NDS nor AP, but {', '.join(metrics)}")


def _boxes(batch: Any, outputs: Mapping[str, np.ndarray], finish: Mapping[str, Any]) -> list[Any]:
    if finish["kind"] != "dense":
        return list(boxes3d_of(outputs, finish))
    return list(picture_boxes_of(outputs, finish, batch))
