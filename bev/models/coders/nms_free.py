"""From class logits and box codes to boxes, and from boxes to regression targets, without suppression."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from bev.ops.candidates import query_candidates
from bev.ops.triton import takes
from bev.registry import MODELS
from bev.structures import Boxes3D
from bev.structures.boxes3d import Frame
from bev.structures.conventions import decode_detr, encode_detr


@MODELS.register_module()
class NMSFreeCoder:
    """Top-k over queries and classes together, as set prediction allows.

    Args:
        max_boxes: number of boxes kept a frame, at most.
        center_range_m: x, y, z of two corners; boxes whose centre is outside are dropped.
        score_threshold: boxes below it are dropped.
        frame: that boxes live in.
        legacy_box_code: codes of mmdet3d < 1.0 (width before length, other yaw), as the original checkpoints learned.
    """

    def __init__(
        self,
        max_boxes: int = 300,
        center_range_m: Sequence[float] = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0),
        score_threshold: float = 0.0,
        frame: Frame = "lidar",
        legacy_box_code: bool = False,
    ) -> None:
        self.max_boxes, self.score_threshold = max_boxes, score_threshold
        self.low_m, self.high_m = tuple(center_range_m[:3]), tuple(center_range_m[3:])
        self.frame, self.legacy_box_code = frame, legacy_box_code

    def encode(self, boxes: Boxes3D) -> Tensor:
        """M boxes -> (M, 10) targets; NaN where a velocity is not known.

        Raises:
            ValueError: the boxes live in another frame.
        """
        if boxes.frame != self.frame:
            raise ValueError(f"this head predicts boxes in the {self.frame} frame, ground truth is in {boxes.frame}")
        return encode_detr(boxes, self.legacy_box_code)

    def decode(self, logits: Tensor, code: Tensor) -> Boxes3D:
        """(Q, num_classes) logits and (Q, 10) codes of one frame -> boxes sorted by falling score."""
        if takes(logits.device):
            return self._decode_on_gpu(logits, code)
        num_classes = logits.shape[1]
        score, index = logits.float().sigmoid().flatten().topk(min(self.max_boxes, logits.numel()))
        boxes = decode_detr(
            code.float()[index // num_classes], index % num_classes, score, self.frame, self.legacy_box_code
        )
        center = boxes.center_m
        kept = (center >= center.new_tensor(self.low_m)) & (center <= center.new_tensor(self.high_m))
        return boxes[kept.all(-1) & (score >= self.score_threshold)]

    def _decode_on_gpu(self, logits: Tensor, code: Tensor) -> Boxes3D:
        range_m = (*self.low_m, *self.high_m)
        found = query_candidates(
            logits[None], code[None], self.max_boxes, range_m, self.score_threshold, self.legacy_box_code
        )
        return found.frame(0, self.frame)
