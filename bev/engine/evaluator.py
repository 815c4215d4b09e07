"""mmengine's Evaluator with an exact exchange between processes."""

from __future__ import annotations

from typing import Any

from mmengine.evaluator import Evaluator as _Evaluator

from bev.engine import distributed


class Evaluator(_Evaluator):
    """Scores once, on rank 0, the results of all processes joined in the order of ranks.

    mmengine's own exchange interleaves the processes' results and cuts them to the data set's length, which is right
    only for one result a frame and padded, interleaved slices. Here slices are contiguous and unpadded, so joining
    them gives the results of one process, however many a metric keeps for a frame.
    """

    def evaluate(self, size: int) -> dict[str, Any]:
        """Metrics by name (``prefix/name``), the same on every process.

        Args:
            size: number of frames, for messages.
        """
        metrics: dict[str, Any] = {}
        for metric in self.metrics:
            parts = distributed.gather(metric.results)
            scores: dict[str, Any] | Exception = {}
            if distributed.rank() == 0:
                scores = self._score(metric, [item for part in parts for item in part])
            metric.results.clear()
            prefix = f"{metric.prefix}/" if metric.prefix else ""
            for name, value in distributed.broadcast(scores).items():
                if prefix + name in metrics:
                    raise ValueError(f"two metrics give {prefix + name!r}; give one of them a prefix")
                metrics[prefix + name] = value
        return metrics

    @staticmethod
    def _score(metric: Any, results: list[Any]) -> dict[str, Any]:
        return dict(metric.compute_metrics(results))
