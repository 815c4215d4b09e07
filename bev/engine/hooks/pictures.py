"""What a 2D detector is taught and what it finds, as pictures in the work folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from bev.evaluation.coco import CocoMetric
from bev.evaluation.coco.curves import write_curves
from bev.registry import HOOKS
from bev.structures import Boxes2D, ImageBatch
from bev.viz.boxes2d import batch_sheet, better_than, in_network, write_picture


@HOOKS.register_module()
class DetectionPicturesHook(Hook):
    """Writes into ``<work folder>/pictures``: the first training batches with their labels, the first tested batches
    with labels and with predictions, curves of precision, recall and F1, and the confusion matrix.

    Those of the last validation replace the ones before.

    Args:
        batches: how many of each.
        score_threshold: of predictions that are drawn.
        curves: whether curves and the matrix are drawn (needs matplotlib and a CocoMetric).
    """

    priority = "LOW"

    def __init__(self, batches: int = 2, score_threshold: float = 0.3, curves: bool = True) -> None:
        self.batches, self.score_threshold, self.curves = batches, score_threshold, curves

    def _folder(self, runner: Any) -> Path:
        return Path(runner.work_dir) / "pictures"

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.rank or batch_idx >= self.batches:
            return
        batch = data_batch[0] if isinstance(data_batch, (list, tuple)) else data_batch
        if isinstance(batch, ImageBatch) and batch.boxes is not None:
            classes = runner.train_loop.dataloader.dataset.metainfo["classes"]
            path = self._folder(runner) / f"train_batch{batch_idx}_labels.jpg"
            write_picture(path, batch_sheet(batch, batch.boxes, classes, with_scores=False))

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._tested(runner, runner.val_loop, "val", batch_idx, data_batch, outputs)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._tested(runner, runner.test_loop, "test", batch_idx, data_batch, outputs)

    def _tested(
        self, runner: Any, loop: Any, stage: str, index: int, batch: ImageBatch, outputs: Sequence[Boxes2D]
    ) -> None:
        if runner.rank or index >= self.batches or not isinstance(batch, ImageBatch):
            return
        classes = loop.dataloader.dataset.metainfo["classes"]
        found = in_network(batch, [better_than(boxes, self.score_threshold) for boxes in outputs])
        name = f"{stage}_batch{index}"
        write_picture(self._folder(runner) / f"{name}_predictions.jpg", batch_sheet(batch, found, classes, True))
        if batch.boxes is not None:
            labels = batch_sheet(batch, batch.boxes, classes, with_scores=False)
            write_picture(self._folder(runner) / f"{name}_labels.jpg", labels)

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self._curves(runner, runner.val_loop)

    def after_test_epoch(self, runner: Any, metrics: Any = None) -> None:
        self._curves(runner, runner.test_loop)

    def _curves(self, runner: Any, loop: Any) -> None:
        if runner.rank or not self.curves:
            return
        for metric in loop.evaluator.metrics if loop.evaluator is not None else ():
            if isinstance(metric, CocoMetric) and metric.evaluation is not None:
                write_curves(self._folder(runner), metric.evaluation, metric.annotations, metric.predicted)
