"""COCO's scores as an mmengine metric."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from bev.evaluation.coco.evaluate import SUMMARY, CocoEvaluation, score_coco
from bev.io.json_files import write_json
from bev.registry import METRICS
from bev.structures import Boxes2D, ImageBatch

_LOG = logging.getLogger(__name__)
Result = dict[str, Any]


@METRICS.register_module()
class CocoMetric(BaseMetric):
    """Collects boxes, writes them as COCO results and scores them as COCO does.

    The truth is the data set's own (``metainfo["annotations"]``), whatever format its files have.

    Args:
        out: where the results go, as COCO results; the annotations that they were scored against go beside them as
            ``<out without suffix>_annotations.json``, for ``tools/evaluate.py --coco``. None: nowhere.
        partial: score only the pictures that were predicted (quick runs on a part). Otherwise a picture that was not
            predicted counts as one without boxes.
        collect_device: ``"cpu"`` or ``"gpu"``, of mmengine's gathering over processes.

    Attributes:
        evaluation: of the last scoring, with its curves; None before.
        predicted: the COCO results that it scored.
    """

    def __init__(self, out: str | None = None, partial: bool = False, collect_device: str = "cpu") -> None:
        # mmengine warns where there is no prefix; these names need none.
        super().__init__(collect_device=collect_device, prefix="coco")
        self.prefix = None
        self.out, self.partial = out, partial
        self.evaluation: CocoEvaluation | None = None
        self.predicted: list[Result] = []

    @property
    def annotations(self) -> dict[str, Any]:
        """The truth, as COCO annotations."""
        if not self.dataset_meta or "annotations" not in self.dataset_meta:
            raise ValueError("CocoMetric scores data sets that tell their annotations (PictureDataset)")
        found: dict[str, Any] = self.dataset_meta["annotations"]
        return found

    def process(self, data_batch: ImageBatch, data_samples: Sequence[Boxes2D]) -> None:
        """Keep the boxes of a batch.

        Args:
            data_batch: the pictures, for their tokens.
            data_samples: boxes of each in px of its file.

        Raises:
            ValueError: a picture or class that the data set does not have, or boxes that are not finite.
        """
        ids = {image["file_name"]: image["id"] for image in self.annotations["images"]}
        categories = [category["id"] for category in self.annotations["categories"]]
        for token, boxes in zip(data_batch.tokens, data_samples, strict=True):
            if token not in ids:
                raise ValueError(f"predictions for picture {token}, which the data set does not have")
            self.results.append((token, coco_results(boxes, ids[token], categories, token)))

    def compute_metrics(self, results: list[tuple[str, list[Result]]]) -> dict[str, float]:
        """COCO's numbers, ``VOC11``, ``VOC``, ``AP/<class>``, ``AP50/<class>``; NaN for classes without truth."""
        predicted: dict[str, list[Result]] = {}
        for token, found in results:  # a skipped picture brings its neighbour twice: the first counts
            predicted.setdefault(token, found)
        annotations = _only(self.annotations, set(predicted)) if self.partial else self.annotations
        missing = len(annotations["images"]) - len(predicted)
        if missing > 0:
            _LOG.warning("%d of %d pictures were not predicted and count as empty", missing, len(annotations["images"]))
        self.predicted = [result for found in predicted.values() for result in found]
        if self.out is not None:
            out = Path(self.out)
            write_json(out, self.predicted)
            write_json(out.with_name(f"{out.stem}_annotations.json"), annotations)
        self.evaluation = score_coco(annotations, self.predicted)
        scores = self.evaluation.scores
        flat = {name: float(scores[name]) for name in (*SUMMARY, "VOC11", "VOC")}
        for name, row in scores["classes"].items():
            flat |= {f"{kind}/{name}": float(row[kind]) for kind in ("AP", "AP50")}
        return flat


def coco_results(boxes: Boxes2D, image_id: int, category_ids: Sequence[int], token: str) -> list[Result]:
    """Boxes of a picture (px of its file) as COCO results; raises ValueError where they cannot be."""
    rows = []
    for (left, top, right, bottom), label, score in zip(
        boxes.xyxy_px.double().tolist(), boxes.label.tolist(), boxes.score.double().tolist()
    ):
        if not all(map(math.isfinite, (left, top, right, bottom, score))) or not 0 <= label < len(category_ids):
            raise ValueError(
                f"picture {token}: box {[left, top, right, bottom]} with label {label} of {len(category_ids)} classes "
                f"and score {score} cannot be scored"
            )
        box = [left, top, max(right - left, 0.0), max(bottom - top, 0.0)]
        rows.append({"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score})
    return rows


def _only(annotations: dict[str, Any], tokens: set[str]) -> dict[str, Any]:
    images = [image for image in annotations["images"] if image["file_name"] in tokens]
    ids = {image["id"] for image in images}
    kept = [a for a in annotations["annotations"] if a["image_id"] in ids]
    return {**annotations, "images": images, "annotations": kept}
