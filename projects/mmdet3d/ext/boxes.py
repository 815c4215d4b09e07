"""Overlaps and suppression. mmcv's upright 3D boxes are x, y, z, dx, dy, dz, heading; so are those of ``bev.ops``."""

from __future__ import annotations

import torch
from torch import Tensor

from bev.ops import box_iou as upright_iou
from bev.ops import box_iou_rotated as turned_iou
from bev.ops import box_overlap_bev, nms_bev
from bev.ops import nms_rotated as turned_nms
from bev.ops.box_iou import OverlapMode
from bev.ops.nms import SoftMethod
from bev.ops.nms import nms as upright_nms
from bev.ops.nms import nms_match as upright_nms_match
from bev.ops.nms import soft_nms

__all__ = [
    *("bbox_overlaps", "box_iou_rotated", "iou3d_boxes_overlap_bev_forward"),
    *("nms", "softnms", "nms_match", "nms_rotated", "iou3d_nms3d_forward", "iou3d_nms3d_normal_forward"),
]

_MODES: tuple[OverlapMode, ...] = ("iou", "iof")
_SOFT: tuple[SoftMethod, ...] = ("naive", "linear", "gaussian")


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Write overlaps of (M1, 4) and (M2, 4) corners in px into ``ious``; mode 0: IoU, 1: over the first's area."""
    ious.copy_(upright_iou(bboxes1, bboxes2, _MODES[mode], aligned, offset).view_as(ious))


def box_iou_rotated(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    """Write overlaps of rotated boxes (M, 5) into ``ious``; the wrapper has turned the angles clockwise."""
    ious.copy_(turned_iou(bboxes1, bboxes2, _MODES[mode_flag], aligned).view_as(ious))


def iou3d_boxes_overlap_bev_forward(boxes_a: Tensor, boxes_b: Tensor, ans_overlap: Tensor) -> None:
    """Write the ground area in m^2 that boxes (M1, 7) and (M2, 7) share."""
    ans_overlap.copy_(box_overlap_bev(boxes_a, boxes_b))


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """(K,) int64 kept boxes, by falling score."""
    return upright_nms(bboxes, scores, iou_threshold, offset=offset)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """(K,) int64 taken boxes; their corners and new scores go into the first K rows of ``dets`` (M, 5)."""
    taken, lowered = soft_nms(boxes, scores, iou_threshold, sigma, min_score, _SOFT[method], offset=offset)
    dets[: len(taken)] = torch.cat([boxes[taken], lowered[:, None]], 1)
    return taken


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Each kept box with those it removed; ``dets`` (M, 5) are corners and score."""
    return [group.tolist() for group in upright_nms_match(dets[:, :4], dets[:, 4], iou_threshold)]


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """(K,) int64 kept boxes of ``dets`` (M, 5 or 6 with labels), by falling score.

    The compiled CPU kernel does not look at labels, the GPU kernel does; so does this, device by device.
    """
    group = labels if multi_label and dets.is_cuda else None
    return turned_nms(dets[:, :5], scores, iou_threshold, group)


def iou3d_nms3d_forward(boxes: Tensor, keep: Tensor, num_out: Tensor, nms_overlap_thresh: float) -> None:
    """Suppression seen from above of boxes (M, 7) sorted by falling score; kept positions go into ``keep``."""
    _suppress(boxes, keep, num_out, nms_overlap_thresh, rotated=True)


def iou3d_nms3d_normal_forward(boxes: Tensor, keep: Tensor, num_out: Tensor, nms_overlap_thresh: float) -> None:
    """The same as if every heading were zero."""
    _suppress(boxes, keep, num_out, nms_overlap_thresh, rotated=False)


def _suppress(boxes: Tensor, keep: Tensor, num_out: Tensor, threshold: float, rotated: bool) -> None:
    falling = -torch.arange(len(boxes), dtype=torch.float32, device=boxes.device)
    kept = nms_bev(boxes, falling, threshold, rotated=rotated)
    keep[: len(kept)] = kept.to(keep.device)
    num_out.fill_(len(kept))
