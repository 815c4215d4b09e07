"""Post-processing inside a graph: every frame gives a fixed number of candidates, by falling score within a task.

The greedy suppression that some heads end with compares boxes one after the other; it stays outside the graph
(:mod:`bev.deploy.finish`), where it takes the candidates that the detector's own ``predict`` would have taken.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.coders import NMSFreeCoder
from bev.models.coders.center_coder import CODE_SIZE
from bev.models.detectors.lift_splat import BEVDet
from bev.models.heads.center_head import CenterHead
from bev.models.heads.center_point_head import CenterPointHead
from bev.models.heads.dense.decoder import geometric_score
from bev.models.heads.dense.head import DenseHead
from bev.models.heads.query_head import QueryHead
from bev.structures import Boxes3D
from bev.structures.conventions import decode_detr

# TensorRT's TopK takes no more.
MOST_CANDIDATES = 3840


def _columns(boxes: Boxes3D, batch: int) -> Tensor:
    """Boxes of B frames in one -> (B, K, 9) x, y, z, l, w, h, yaw, vx, vy."""
    parts = [boxes.center_m, boxes.size_m, boxes.yaw_rad[:, None], boxes.velocity_mps]
    return torch.cat(parts, -1).unflatten(0, (batch, -1))


def _within(center_m: Tensor, low_m: Any, high_m: Any) -> Tensor:
    return ((center_m >= center_m.new_tensor(low_m)) & (center_m <= center_m.new_tensor(high_m))).all(-1)


class QueryDecode(nn.Module):
    """The best (query, class) pairs of the last layer, as ``NMSFreeCoder.decode`` chooses them."""

    def __init__(self, head: QueryHead) -> None:
        super().__init__()
        self.coder: NMSFreeCoder = head.coder

    def forward(self, outputs: dict[str, Any]) -> dict[str, Tensor]:
        """``boxes`` (B, K, 9), ``score`` (B, K), ``label`` (B, K) int64, ``valid`` (B, K) bool."""
        logits, code = outputs["cls_logits"][-1].float(), outputs["box_code"][-1].float()
        batch, queries, classes = logits.shape
        score, index = logits.sigmoid().flatten(1).topk(min(self.coder.max_boxes, queries * classes, MOST_CANDIDATES))
        query, label = index // classes, index % classes
        chosen = code.gather(1, query.unsqueeze(-1).expand(-1, -1, code.shape[-1]))
        boxes = decode_detr(
            chosen.flatten(0, 1), label.flatten(), score.flatten(), self.coder.frame, self.coder.legacy_box_code
        )
        columns = _columns(boxes, batch)
        valid = _within(columns[..., :3], self.coder.low_m, self.coder.high_m) & (score >= self.coder.score_threshold)
        return {"boxes": columns, "score": score, "label": label, "valid": valid}


class CenterDecode(nn.Module):
    """The best cells of every task of a CenterPoint head, one task's candidates after the other's."""

    def __init__(self, head: CenterHead) -> None:
        super().__init__()
        self.published = isinstance(head, CenterPointHead)
        self.head, self.coder = head, copy.copy(head.coder)
        self.limits = getattr(head.coder, "center_range_m", None)
        if self.limits is not None:
            self.coder.center_range_m = None  # type: ignore[attr-defined]  # no box is dropped inside the graph

    def candidates(self) -> list[int]:
        """Number of candidates of each task."""
        cells = self.coder.grid.shape[1] * self.coder.grid.shape[2]
        most = min(self.head.max_candidates, MOST_CANDIDATES)
        return [min(most, len(labels) * cells) for labels in self.head.task_labels]

    def forward(self, outputs: dict[str, Any]) -> dict[str, Tensor]:
        """As :meth:`QueryDecode.forward`."""
        tasks = [self._task(i, output) for i, output in enumerate(outputs["tasks"])]
        return {name: torch.cat([task[name] for task in tasks], 1) for name in tasks[0]}

    def _task(self, task: int, output: dict[str, Tensor]) -> dict[str, Tensor]:
        heat = output["heatmap"].float().sigmoid()
        if not self.published:
            heat = torch.where(F.max_pool2d(heat, 3, 1, 1) == heat, heat, 0.0)
        score, index = heat.flatten(1).topk(self.candidates()[task])
        cells = self.coder.grid.shape[1] * self.coder.grid.shape[2]
        labels = torch.tensor(self.head.task_labels[task], device=index.device)
        label, cell = labels[index // cells], index % cells
        maps = torch.cat([output[name] for name in self.head.branches], 1).flatten(2).float()
        code = maps.gather(2, cell.unsqueeze(1).expand(-1, CODE_SIZE, -1)).transpose(1, 2)
        boxes = self.coder.decode(cell.flatten(), code.flatten(0, 1), label.flatten(), score.flatten())
        columns = _columns(boxes, score.shape[0])
        valid = score > self.head.score_threshold
        if self.limits is not None:
            valid = valid & _within(columns[..., :3], self.limits[:3], self.limits[3:])
        return {"boxes": columns, "score": score, "label": label, "valid": valid}


class EvidenceDecode(nn.Module):
    """:class:`CenterDecode` and what the images say of every candidate (``BEVDet.image_evidence``)."""

    def __init__(self, model: BEVDet) -> None:
        super().__init__()
        assert model.img_center_head is not None
        self.cells, self.image_head = CenterDecode(model.pts_bbox_head), model.img_center_head

    def candidates(self) -> list[int]:
        """Number of candidates of each task."""
        return self.cells.candidates()

    def forward(self, outputs: dict[str, Any]) -> dict[str, Tensor]:
        """Also ``seen`` (B, K) bool and ``evidence`` (B, K)."""
        found = self.cells(outputs)
        rig = outputs["rig"]
        seen, evidence = self.image_head.evidence_at(
            found["boxes"][..., :3], found["label"], outputs["image_heatmap"], rig.img_from_ref, rig.image_size_px
        )
        return {**found, "seen": seen, "evidence": evidence}


class CellDecode(nn.Module):
    """What ``BEVSegmenter`` says of every cell."""

    def forward(self, outputs: dict[str, Any]) -> dict[str, Tensor]:
        """``probability`` (B, Y, X) that a cell is foreground."""
        return {"probability": outputs["logits"].float().sigmoid()}


class DenseDecode(nn.Module):
    """The best (prior, class) pairs of every level, as ``DenseDecoder`` chooses them before its suppression."""

    def __init__(self, head: DenseHead) -> None:
        super().__init__()
        self.head, self.rule = head, head.decoder

    def forward(self, outputs: dict[str, Any]) -> dict[str, Tensor]:
        """``boxes`` (B, K, 4) corners in network px, ``score`` (B, K), ``label`` (B, K) int64, ``valid`` (B, K)."""
        found = self.head.predictions(outputs)
        quality = None if found.quality is None else found.quality.float().sigmoid()
        counts = (found.scores.shape[1],) if self.rule.across_levels else found.priors.counts
        levels, start = [], 0
        for count in counts:
            rows = slice(start, start + count)
            level_quality = None if quality is None else quality[:, rows]
            levels.append(self._level(found.scores[:, rows], level_quality, found.boxes_px[:, rows]))
            start += count
        return {name: torch.cat([level[name] for level in levels], 1) for name in levels[0]}

    def _level(self, scores: Tensor, quality: Tensor | None, boxes: Tensor) -> dict[str, Tensor]:
        rule = self.rule
        if quality is None:
            quality = torch.ones_like(scores[..., 0])
        elif rule.quality_threshold > 0:
            scores = torch.where(quality.unsqueeze(-1) >= rule.quality_threshold, scores, -1.0)
        elif rule.quality_mode == "geometric":
            scores = geometric_score(scores, quality.unsqueeze(-1), rule.quality_share)
            quality = torch.ones_like(quality)
        if rule.single_label:
            best, label = scores.max(-1)
            score, prior = (best * quality).topk(min(best.shape[1], MOST_CANDIDATES))
            return self._rows(boxes, prior, score, label.gather(1, prior), score >= rule.score_threshold)
        classes = scores.shape[-1]
        count = min(scores.shape[1] * classes, rule.level_candidates or MOST_CANDIDATES, MOST_CANDIDATES)
        value, index = scores.flatten(1).topk(count)
        prior = index // classes
        return self._rows(
            boxes, prior, value * quality.gather(1, prior), index % classes, value > rule.score_threshold
        )

    @staticmethod
    def _rows(boxes: Tensor, prior: Tensor, score: Tensor, label: Tensor, valid: Tensor) -> dict[str, Tensor]:
        chosen = boxes.gather(1, prior.unsqueeze(-1).expand(-1, -1, 4))
        return {"boxes": chosen, "score": score, "label": label, "valid": valid}
