"""Intersection over union of masks on the bird's-eye-view grid (LSS, arXiv 2008.05711, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.evaluator import BaseMetric
from torch import Tensor

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.footprints import footprints
from bev.models.detectors.base import ground_truth
from bev.models.detectors.bev_segmenter import VEHICLES, of_classes
from bev.registry import METRICS
from bev.structures import Batch
from bev.structures.conventions import CLASSES


@METRICS.register_module()
class BEVSegmentationIoU(BaseMetric):
    """IoU over all cells of all frames together, as LSS reports it.

    Args:
        grid: of the masks.
        classes: what counts as foreground.
        threshold: probability above which a cell counts as foreground.
        collect_device: see mmengine.
    """

    def __init__(
        self,
        grid: BEVGrid,
        classes: Sequence[str] = VEHICLES,
        threshold: float = 0.5,
        collect_device: str = "cpu",
    ) -> None:
        # mmengine warns where there is no prefix; this name needs none.
        super().__init__(collect_device=collect_device, prefix="segmentation")
        self.prefix = None
        self.grid, self.labels, self.threshold = grid, [CLASSES.index(name) for name in classes], threshold

    def process(self, data_batch: Batch, data_samples: Sequence[Tensor]) -> None:
        """Count the cells of a batch.

        Args:
            data_batch: the frames with their boxes.
            data_samples: (Y, X) probability of each frame.

        Raises:
            ValueError: frames without ground truth, or masks of another grid.
        """
        for boxes, probability in zip(ground_truth(data_batch), data_samples, strict=True):
            if tuple(probability.shape) != self.grid.shape[1:]:
                raise ValueError(f"mask of shape {tuple(probability.shape)}, the metric's grid is {self.grid.shape[1:]}")
            target = footprints(of_classes(boxes, self.labels), self.grid).to(probability.device)
            predicted = probability > self.threshold
            self.results.append((int((predicted & target).sum()), int((predicted | target).sum())))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """``IoU``; 1 where no cell is foreground, neither in truth nor as predicted."""
        shared, union = (sum(column) for column in zip(*results)) if results else (0, 0)
        return {"IoU": shared / union if union else 1.0}
