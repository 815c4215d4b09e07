"""CenterPoint's head with the targets, losses and suppression of the published lift-splat detectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bev.models.coders.center_coder import CODE_SIZE, CellCodes
from bev.models.coders.center_point_coder import CenterPointCoder
from bev.models.heads.center_head import CenterHead, TaskTargets
from bev.models.heads.center_targets import draw_heatmap, gaussian_radius
from bev.models.losses.gaussian_focal import gaussian_focal_loss
from bev.registry import MODELS
from bev.structures import Boxes3D

PUBLISHED_TASKS = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)
# Heatmap probabilities are held inside [1e-4, 1 - 1e-4]: beyond these logits there is no gradient, as published.
_MAX_LOGIT = math.log(0.9999 / 0.0001)
# Parts of the code, each with its own loss term.
_PARTS = {"xy": slice(0, 2), "z": slice(2, 3), "whl": slice(3, 6), "yaw": slice(6, 8), "vel": slice(8, 10)}

Suppression = Callable[[Boxes3D, Tensor], Tensor]


class _Task(NamedTuple):
    boxes: Boxes3D
    task_class: Tensor


@MODELS.register_module()
class CenterPointHead(CenterHead):
    """Tasks of similar classes, each with a heatmap a class and five regression branches; published names.

    Args:
        in_channels: of the grid.
        coder: grid and box code.
        suppression: for each task, what drops its duplicates.
        tasks: class names of each task; together each class once.
        shared_channels, head_channels: widths of the shared 3x3 convolution and of the branches.
        min_overlap, min_radius: size of the heatmap's Gaussians.
        max_objects: ground-truth boxes of a task and frame beyond these are left out.
        heatmap_weight, bbox_weight: of the loss terms.
        split_bbox_loss: a term for each of xy, z, whl, yaw and vel instead of one ``loss_bbox``; their sum is the same.
        code_weights: 10 factors of the L1 terms.
        max_candidates: peaks a task that are decoded.
        score_threshold: boxes at or below are dropped.
    """

    coder: CenterPointCoder

    def __init__(
        self,
        in_channels: int,
        coder: CenterPointCoder,
        suppression: Sequence[Suppression],
        tasks: Sequence[Sequence[str]] = PUBLISHED_TASKS,
        shared_channels: int = 64,
        head_channels: int = 64,
        min_overlap: float = 0.1,
        min_radius: int = 2,
        max_objects: int = 500,
        heatmap_weight: float = 1.0,
        bbox_weight: float = 0.25,
        split_bbox_loss: bool = False,
        code_weights: Sequence[float] = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2),
        max_candidates: int = 500,
        score_threshold: float = 0.1,
    ) -> None:
        super().__init__(
            in_channels,
            coder,
            tasks,
            shared_channels,
            head_channels,
            min_overlap=min_overlap,
            min_radius=min_radius,
            loss_weights={"heatmap": heatmap_weight, "bbox": bbox_weight},
            code_weights=code_weights,
            max_candidates=max_candidates,
            score_threshold=score_threshold,
        )
        if len(suppression) != len(tasks):
            raise ValueError(f"{len(tasks)} tasks need as many suppressions, got {len(suppression)}")
        self.suppression, self.max_objects, self.split_bbox_loss = list(suppression), max_objects, split_bbox_loss

    def target_counts(self, boxes: Sequence[Boxes3D]) -> dict[str, Tensor]:
        """``boxes_{task}``: cells with a centre of the heatmap's class; ``cells_{task}``: boxes inside the grid."""
        counts = {}
        for i, labels in enumerate(self.task_labels):
            members = [self._members(sample, labels) for sample in boxes]
            found = [(m, *self.coder.center_cells(m.boxes)) for m in members]
            peaks = [torch.unique(torch.stack([m.task_class, cell], 1)[inside], dim=0) for m, cell, inside in found]
            counts[f"boxes_{i}"] = boxes[0].score.new_tensor(float(sum(len(p) for p in peaks)))
            counts[f"cells_{i}"] = torch.stack([inside.sum() for _, _, inside in found]).sum().to(boxes[0].score)
        return counts

    def targets(self, boxes: Sequence[Boxes3D]) -> list[TaskTargets]:
        """Ground truth of B frames -> targets of each task. ``codes[b].box`` counts the task's boxes, its first class
        first, each class in the order given."""
        members = [[self._members(sample, labels) for sample in boxes] for labels in self.task_labels]
        return [self._published_targets(task, labels) for task, labels in zip(members, self.task_labels)]

    def _members(self, boxes: Boxes3D, labels: Sequence[int]) -> _Task:
        """The task's boxes, class by class, and their class within the task."""
        indices = [(boxes.label == label).nonzero().squeeze(1) for label in labels]
        task_class = torch.cat([torch.full_like(index, i) for i, index in enumerate(indices)])
        return _Task(boxes[torch.cat(indices)[: self.max_objects]], task_class[: self.max_objects])

    def _published_targets(self, members: Sequence[_Task], labels: Sequence[int]) -> TaskTargets:
        _, height, width = self.coder.grid.shape
        heatmaps, codes = [], []
        for task in members:
            cell, inside = self.coder.center_cells(task.boxes)
            # The published code measures the width along x and the length along y; cells are square everywhere.
            size = self.coder.in_cells(task.boxes.size_m[:, [1, 0]])[inside]
            radius = gaussian_radius(size[:, 1], size[:, 0], self.min_overlap).long().clamp(min=self.min_radius)
            cell_xy = torch.stack([cell % width, cell // width], -1)[inside]
            heatmaps.append(draw_heatmap(cell_xy, radius, task.task_class[inside], (len(labels), height, width)))
            codes.append(self.coder.encode(task.boxes))
        return TaskTargets(torch.stack(heatmaps), codes)

    def loss(
        self, outputs: Sequence[Mapping[str, Tensor]], boxes: Sequence[Boxes3D], avg_factors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """``task{i}.loss_heatmap``, and ``task{i}.loss_bbox`` or its five parts."""
        losses = {}
        for i, (output, target) in enumerate(zip(outputs, self.targets(boxes))):
            heat = gaussian_focal_loss(output["heatmap"].float().clamp(-_MAX_LOGIT, _MAX_LOGIT), target.heatmap)
            losses[f"task{i}.loss_heatmap"] = (
                self.loss_weights["heatmap"] * heat / avg_factors[f"boxes_{i}"].clamp(min=1.0)
            )
            predicted = self._codes_at(output, [codes.cell for codes in target.codes])
            elements = self._elements(predicted, target.codes) / (avg_factors[f"cells_{i}"] + 1e-4)
            parts = _PARTS if self.split_bbox_loss else {"bbox": slice(0, CODE_SIZE)}
            for name, columns in parts.items():
                losses[f"task{i}.loss_{name}"] = self.loss_weights["bbox"] * elements[:, columns].sum()
        return losses

    def _elements(self, predicted: Tensor, codes: Sequence[CellCodes]) -> Tensor:
        target = torch.cat([c.code for c in codes])
        weight = torch.cat([c.weight for c in codes]) * self.code_weights
        return F.l1_loss(predicted, target, reduction="none") * weight

    def decode(self, outputs: Sequence[Mapping[str, Tensor]]) -> list[Boxes3D]:
        """Boxes of the reference frame, by falling score, one entry a frame; heatmaps are not thinned to peaks."""
        tasks = [self._decode_published(i, output) for i, output in enumerate(outputs)]
        joined = [Boxes3D.cat([task[b] for task in tasks]) for b in range(len(tasks[0]))]
        return [boxes[boxes.score.sort(descending=True, stable=True).indices] for boxes in joined]

    def _decode_published(self, task: int, output: Mapping[str, Tensor]) -> list[Boxes3D]:
        ranked = self._candidates(output, self.task_labels[task], peaks=False)
        if ranked is not None:
            return [self._suppressed(task, boxes) for boxes in ranked]
        heat = output["heatmap"].float().sigmoid().flatten(1)
        score, index = heat.topk(min(self.max_candidates, heat.shape[1]))
        cells = self.coder.grid.shape[1] * self.coder.grid.shape[2]
        labels = torch.tensor(self.task_labels[task], device=index.device)
        codes = self._codes_at(output, list(index % cells)).view(*index.shape, CODE_SIZE)
        kept = []
        for b in range(len(index)):
            task_class, cell = index[b] // cells, index[b] % cells
            boxes = self.coder.decode(cell, codes[b], labels[task_class], score[b])
            kept.append(self._suppressed(task, boxes[boxes.score > self.score_threshold]))
        return kept

    def _suppressed(self, task: int, boxes: Boxes3D) -> Boxes3D:
        labels = torch.tensor(self.task_labels[task], device=boxes.label.device)
        within = (boxes.label[:, None] == labels).int().argmax(1)
        return boxes[self.suppression[task](boxes, within)]
