"""CenterPoint's head: class heatmaps and box codes on the bird's-eye-view grid (arXiv 2006.11275)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.geometry.mirror import SIDEWAYS, ReferenceFrame
from bev.models.coders.center_coder import CODE_SIZE, CellCodes, CenterCoder
from bev.models.conv_module import ConvModule
from bev.models.heads.center_targets import draw_heatmap, gaussian_radius
from bev.models.losses.gaussian_focal import gaussian_focal_loss
from bev.ops.candidates import center_candidates
from bev.ops.circle_nms import circle_nms
from bev.ops.triton import takes
from bev.registry import MODELS
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES

# Regression maps in the order of the code (CenterCoder), with the published names; or all of them from one branch.
SEPARATE_BRANCHES = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
JOINT_BRANCH = {"box": CODE_SIZE}
HEATMAP_BIAS = -2.19  # sigmoid = 0.1, as published


class SeparateHead(nn.Sequential):
    """One branch: 3x3 convolutions with norm and ReLU, and a last 3x3 convolution."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, bias: float = 0.0) -> None:
        last = nn.Conv2d(hidden_channels, out_channels, 3, padding=1)
        nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]
        super().__init__(ConvModule(in_channels, hidden_channels), last)


class TaskTargets(NamedTuple):
    """Targets of one task: heatmap (B, K, Y, X), and the codes of each of the B samples' cells."""

    heatmap: Tensor
    codes: list[CellCodes]


@MODELS.register_module()
class CenterHead(nn.Module):
    """Tasks of similar classes, each with a heatmap per class and one set of box codes.

    Args:
        in_channels: of the grid.
        coder: grid and box code.
        tasks: class names of each task; together each class once.
        shared_channels, head_channels: widths of the shared 3x3 convolution and of the branches.
        joint_regression: one branch for the whole box code instead of the published five; a third of the cost.
        min_overlap, min_radius: size of the heatmap's Gaussians.
        regression_radius: the cells of the square of that half side around a centre's cell learn the box's code, not
            the centre's alone (0, as published): a peak that is one cell off still finds its box.
        loss_weights: of ``heatmap`` and ``bbox``.
        code_weights: 10 factors of the L1 terms.
        max_candidates: peaks a task that enter the suppression.
        max_boxes: kept a frame (nuScenes allows 500).
        score_threshold: boxes below are dropped.
        nms_radius_m: centre distance of the suppression by class name; classes not named are not suppressed.
    """

    code_weights: Tensor
    nms_radius_m: Tensor

    def __init__(
        self,
        in_channels: int,
        coder: CenterCoder,
        tasks: Sequence[Sequence[str]] = (CLASSES,),
        shared_channels: int = 64,
        head_channels: int = 64,
        joint_regression: bool = False,
        min_overlap: float = 0.1,
        min_radius: int = 2,
        regression_radius: int = 0,
        loss_weights: Mapping[str, float] | None = None,
        code_weights: Sequence[float] = (1, 1, 1, 1, 1, 1, 1, 1, 0.2, 0.2),
        max_candidates: int = 500,
        max_boxes: int = 300,
        score_threshold: float = 0.02,
        nms_radius_m: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if sorted(name for task in tasks for name in task) != sorted(CLASSES):
            raise ValueError(f"tasks must hold every class once, got {tasks}")
        self.coder, self.score_threshold = coder, score_threshold
        self.max_candidates, self.max_boxes = max_candidates, max_boxes
        self.min_overlap, self.min_radius, self.regression_radius = min_overlap, min_radius, regression_radius
        self.loss_weights = {"heatmap": 1.0, "bbox": 0.25, **(loss_weights or {})}
        self.task_labels = [[CLASSES.index(name) for name in task] for task in tasks]
        self.register_buffer("code_weights", torch.tensor(code_weights, dtype=torch.float32), persistent=False)
        radii = [(nms_radius_m or {}).get(name, -1.0) for name in CLASSES]
        self.register_buffer("nms_radius_m", torch.tensor(radii), persistent=False)
        self.shared_conv = ConvModule(in_channels, shared_channels)
        self.branches = JOINT_BRANCH if joint_regression else SEPARATE_BRANCHES
        self.task_heads = nn.ModuleList(self._task_head(shared_channels, head_channels, len(t)) for t in tasks)

    def _task_head(self, channels: int, hidden: int, num_classes: int) -> nn.ModuleDict:
        branches = {name: SeparateHead(channels, hidden, size) for name, size in self.branches.items()}
        return nn.ModuleDict({**branches, "heatmap": SeparateHead(channels, hidden, num_classes, bias=HEATMAP_BIAS)})

    def forward(self, bev: Tensor) -> list[dict[str, Tensor]]:
        """(B, C, Y, X) -> for each task the maps (B, k, Y, X) of every branch; heatmaps before the sigmoid."""
        shared = self.shared_conv(bev)
        return [{name: branch(shared) for name, branch in task.items()} for task in self.task_heads]  # type: ignore

    def target_counts(self, boxes: Sequence[Boxes3D]) -> dict[str, Tensor]:
        """``boxes_{task}`` and ``cells_{task}``: ground-truth boxes of each task inside the grid, and cells that learn
        a box's code."""
        counts = {}
        for i, labels in enumerate(self.task_labels):
            members = [_of_labels(b, labels) for b in boxes]
            counts[f"boxes_{i}"] = torch.stack([self.coder.center_cells(b)[1].sum() for b in members]).sum().float()
            cells = sum(self.coder.count_cells(b, self.regression_radius) for b in members)
            counts[f"cells_{i}"] = counts[f"boxes_{i}"].new_tensor(float(cells))
        return counts

    def targets(self, boxes: Sequence[Boxes3D]) -> list[TaskTargets]:
        """Ground truth of B frames -> targets of each task."""
        return [self._task_targets([_of_labels(b, labels) for b in boxes], labels) for labels in self.task_labels]

    def _task_targets(self, boxes: Sequence[Boxes3D], labels: Sequence[int]) -> TaskTargets:
        _, height, width = self.coder.grid.shape
        heatmaps, codes = [], []
        for sample in boxes:
            cell, inside = self.coder.center_cells(sample)
            cell, kept = cell[inside], sample[inside]
            size = kept.size_m / kept.size_m.new_tensor([self.coder.grid.x_m[2], self.coder.grid.y_m[2], 1.0])
            radius = gaussian_radius(size[:, 0], size[:, 1], self.min_overlap).long().clamp(min=self.min_radius)
            channel = (kept.label[:, None] == kept.label.new_tensor(labels)).int().argmax(1)
            cell_xy = torch.stack([cell % width, cell // width], -1)
            heatmaps.append(draw_heatmap(cell_xy, radius, channel, (len(labels), height, width)))
            codes.append(self.coder.encode(sample, self.regression_radius))
        return TaskTargets(torch.stack(heatmaps), codes)

    def loss(
        self, outputs: Sequence[Mapping[str, Tensor]], boxes: Sequence[Boxes3D], avg_factors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Terms ``loss_heatmap`` and ``loss_bbox`` of every task, divided by ``avg_factors`` (at least 1)."""
        losses = {}
        for i, (output, target) in enumerate(zip(outputs, self.targets(boxes))):
            heat = gaussian_focal_loss(output["heatmap"], target.heatmap) / avg_factors[f"boxes_{i}"].clamp(min=1.0)
            regression = self._code_loss(self._codes_at(output, [c.cell for c in target.codes]), target.codes)
            regression = regression / avg_factors[f"cells_{i}"].clamp(min=1.0)
            losses[f"task{i}.loss_heatmap"] = heat * self.loss_weights["heatmap"]
            losses[f"task{i}.loss_bbox"] = regression * self.loss_weights["bbox"]
        return losses

    def _code_loss(self, predicted: Tensor, codes: Sequence[CellCodes]) -> Tensor:
        target = torch.cat([c.code for c in codes])
        weight = torch.cat([c.weight for c in codes]) * self.code_weights
        return (F.l1_loss(predicted, target, reduction="none") * weight).sum()

    def _codes_at(self, output: Mapping[str, Tensor], cells: Sequence[Tensor]) -> Tensor:
        """(sum M_b, 10) float32 codes at each sample's cells."""
        maps = torch.cat([output[name] for name in self.branches], 1).flatten(2)
        return torch.cat([maps[i][:, cell].T.float() for i, cell in enumerate(cells)])

    def average_with_mirrored(
        self, outputs: Sequence[Mapping[str, Tensor]], mirrored: Sequence[Mapping[str, Tensor]], frame: ReferenceFrame
    ) -> list[dict[str, Tensor]]:
        """Mean of the maps of a world (probabilities and codes) and of those of its mirror image, in the world."""
        return [self._mean(task, other, frame) for task, other in zip(outputs, mirrored)]

    def _mean(
        self, task: Mapping[str, Tensor], other: Mapping[str, Tensor], frame: ReferenceFrame
    ) -> dict[str, Tensor]:
        seen_again = other["heatmap"].float().sigmoid().flip(3 - SIDEWAYS[frame])
        heat = (task["heatmap"].float().sigmoid() + seen_again) / 2
        codes, other_codes = (torch.cat([maps[name] for name in self.branches], 1).float() for maps in (task, other))
        mean = (codes + self.coder.mirror(other_codes, frame)) / 2
        return {**dict(zip(self.branches, mean.split(list(self.branches.values()), 1))), "heatmap": heat.logit(1e-6)}

    def decode(self, outputs: Sequence[Mapping[str, Tensor]]) -> list[Boxes3D]:
        """Peaks of the heatmaps as boxes of the reference frame, by falling score, one entry a frame."""
        tasks = [self._decode_task(output, labels) for output, labels in zip(outputs, self.task_labels)]
        return [self._suppress(Boxes3D.cat([task[i] for task in tasks])) for i in range(len(tasks[0]))]

    def _candidates(
        self, output: Mapping[str, Tensor], labels: Sequence[int], peaks: bool
    ) -> list[Boxes3D] | None:
        """A task's boxes above the threshold by the GPU's kernel; None where it does not take them."""
        settings = self.coder.candidate_settings()
        if settings is None or not takes(output["heatmap"].device):
            return None
        frame, maps = settings.pop("frame"), [output[name] for name in self.branches]
        found = center_candidates(
            output["heatmap"], maps, self.max_candidates, score_threshold=self.score_threshold, peaks=peaks, **settings
        )
        found = found._replace(label=found.label.new_tensor(labels)[found.label])
        return [found.frame(i, frame) for i in range(len(found.score))]

    def _decode_task(self, output: Mapping[str, Tensor], labels: Sequence[int]) -> list[Boxes3D]:
        ranked = self._candidates(output, labels, peaks=True)
        if ranked is not None:
            return ranked
        heat = output["heatmap"].float().sigmoid()
        heat = torch.where(F.max_pool2d(heat, 3, 1, 1) == heat, heat, 0.0).flatten(1)
        score, index = heat.topk(min(self.max_candidates, heat.shape[1]))
        cells_per_map = self.coder.grid.shape[1] * self.coder.grid.shape[2]
        label = torch.tensor(labels, device=index.device)[index // cells_per_map]
        cell = index % cells_per_map
        codes = self._codes_at(output, list(cell)).view(*cell.shape, CODE_SIZE)
        found = [self.coder.decode(cell[i], codes[i], label[i], score[i]) for i in range(len(cell))]
        return [boxes[boxes.score > self.score_threshold] for boxes in found]

    def _suppress(self, boxes: Boxes3D) -> Boxes3D:
        keep = circle_nms(boxes.center_m[:, :2], boxes.score, boxes.label, self.nms_radius_m[boxes.label])
        return boxes[keep[: self.max_boxes]]


def _of_labels(boxes: Boxes3D, labels: Sequence[int]) -> Boxes3D:
    """Boxes of the given labels."""
    return boxes[(boxes.label[:, None] == boxes.label.new_tensor(labels)[None]).any(1)]
