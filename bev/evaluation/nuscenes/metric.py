"""NDS and mAP as an mmengine metric."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.evaluator import BaseMetric

from bev.data.nuscenes.dataset import frames_of_split
from bev.data.nuscenes.store import load_index
from bev.evaluation.nuscenes.evaluate import evaluate_submission
from bev.evaluation.nuscenes.full_report import write_nuscenes_report
from bev.evaluation.nuscenes.report import print_scores, save_scores
from bev.evaluation.nuscenes.scores import Scores
from bev.evaluation.nuscenes.settings import CLASS_RANGE_M, DetectionSettings
from bev.evaluation.nuscenes.submission import (
    CAMERA_ONLY,
    Detection,
    detections,
    in_class_range,
    to_global,
    write_submission,
)
from bev.registry import METRICS, check_keys
from bev.structures import Batch, Boxes3D

_LOG = logging.getLogger(__name__)


@METRICS.register_module()
class NuScenesMetric(BaseMetric):
    """Collects predictions, writes them as a nuScenes submission and scores it as nuScenes does.

    Args:
        root, version, split: as for ``NuScenesDataset``.
        out: where the submission goes; ``<out without suffix>_scores.json`` holds the scores. None: a temporary file.
        class_range_m: ranges by class, where they are not the official ones.
        partial: score only the samples that were predicted (quick runs on a part of the split). Otherwise a sample
            that was not predicted counts as one without boxes.
        show: print the table of scores.
        report: folder for the report page with its plots; None: none is written.
        meta: of the submission.
        collect_device: ``"cpu"`` or ``"gpu"``, of mmengine's gathering over processes.
    """

    def __init__(
        self,
        root: str,
        version: str,
        split: str | Sequence[str],
        out: str | None = None,
        class_range_m: Mapping[str, float] | None = None,
        partial: bool = False,
        show: bool = True,
        report: str | None = None,
        meta: Mapping[str, bool] = CAMERA_ONLY,
        collect_device: str = "cpu",
    ) -> None:
        # mmengine warns where there is no prefix; these names need none.
        super().__init__(collect_device=collect_device, prefix="nuscenes")
        self.prefix = None
        check_keys(class_range_m or {}, CLASS_RANGE_M, "class_range_m")
        self.root, self.version, self.split, self.out = root, version, split, out
        self.class_range_m = {**CLASS_RANGE_M, **(class_range_m or {})}
        self.partial, self.show, self.report, self.meta = partial, show, report, meta
        self.index = load_index(root, version)
        frames = frames_of_split(self.index, Path(root) / version, split)
        self.tokens = [self.index.token[int(i)] for i in frames]

    def process(self, data_batch: Batch, data_samples: Sequence[Boxes3D]) -> None:
        """Keep the predictions of a batch.

        Args:
            data_batch: the frames, for their tokens and poses.
            data_samples: boxes of each frame in the reference frame.

        Raises:
            ValueError: a frame that is not in the data set, or predictions that are not finite.
        """
        for token, pose, boxes in zip(data_batch.tokens, data_batch.global_from_ref, data_samples, strict=True):
            self.results.append((token, self._records(token, to_global(boxes, pose))))

    def _records(self, token: str, boxes: Boxes3D) -> list[Detection]:
        """Records of a frame's boxes that lie where their class is scored."""
        if token not in self.index.frame_of:
            raise ValueError(f"predictions for sample {token}, which is not in {self.root}/{self.version}")
        pose = self.index.global_from_ego[self.index.frame_of[token]]
        return detections(token, boxes[in_class_range(boxes, pose, self.class_range_m)])

    def compute_metrics(self, results: list[tuple[str, list[Detection]]]) -> dict[str, float]:
        """Scores by name: ``NDS``, ``mAP``, ``mATE`` ..., ``AP/car`` ..., ``ATE/car`` ..."""
        # Padding of distributed samplers and skipped frames can bring a frame twice: the first counts.
        predicted: dict[str, list[Detection]] = {}
        for token, records in results:
            predicted.setdefault(token, records)
        missing = [token for token in self.tokens if token not in predicted]
        tokens = [token for token in self.tokens if token in predicted] if self.partial else self.tokens
        if missing and not self.partial:
            _LOG.warning("%d of %d samples were not predicted and count as empty", len(missing), len(self.tokens))
        scores = self._score({token: predicted.get(token, []) for token in tokens}, tokens)
        if self.show:
            print_scores(scores)
        return _flat(scores)

    def _score(self, results: dict[str, list[Detection]], tokens: list[str]) -> Scores:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(self.out or Path(folder) / "results.json")
            write_submission(path, results, self.meta)
            settings = DetectionSettings(self.class_range_m)
            subset = tokens if self.partial else None
            done = evaluate_submission(path, self.root, self.version, self.split, settings, subset)
            save_scores(path.with_name(f"{path.stem}_scores.json"), done.scores)
        if self.report:
            _LOG.info("report: %s", write_nuscenes_report(self.report, done, self.root, self.version))
        return done.scores


def _flat(scores: Scores) -> dict[str, float]:
    flat = {name: value for name, value in scores.items() if name not in ("classes", "samples")}
    for name, row in scores["classes"].items():
        flat.update({f"{kind}/{name}": row[kind] for kind in ("AP", "ATE", "ASE", "AOE", "AVE", "AAE")})
    return flat
