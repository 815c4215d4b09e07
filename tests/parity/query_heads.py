"""What the parity tests of the query heads share: the files' configurations, rigs and boxes in this library's terms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bev.models.assigners import HungarianAssigner3D
from bev.models.coders import NMSFreeCoder
from bev.models.heads import QueryHead
from bev.models.losses import FocalLoss, L1Loss
from bev.structures import Boxes3D, CameraRig
from bev.structures.conventions import CAMERAS_DETR3D, BoxConvention, boxes_to_array
from tests.parity.golden import Golden


def head_parts(config: dict[str, Any], legacy: bool = True) -> dict[str, Any]:
    """Keyword arguments that every query head takes, from a published head configuration."""
    cost, coder, cls = config["train_cfg"]["assigner"], config["bbox_coder"], config["loss_cls"]
    return {
        "num_queries": config["num_query"],
        "num_classes": config["num_classes"],
        "assigner": HungarianAssigner3D(cost["cls_cost"]["weight"], cost["reg_cost"]["weight"]),
        "coder": NMSFreeCoder(coder["max_num"], coder["post_center_range"], legacy_box_code=legacy),
        "loss_cls": FocalLoss(cls["gamma"], cls["alpha"], cls["loss_weight"]),
        "loss_bbox": L1Loss(config["loss_bbox"]["loss_weight"]),
    }


def rig_from(img_from_ref: Tensor, height_width: Tensor, intrinsics: Tensor | None = None) -> CameraRig:
    """(B, N, 4, 4) projections as a rig whose ``img_from_ref`` they are; intrinsics are told apart where given."""
    batch, cameras = img_from_ref.shape[:2]
    eye = torch.eye(3, dtype=torch.float64).expand(batch, cameras, 3, 3)
    matrices, known = img_from_ref, eye
    if intrinsics is not None:
        known, matrices = intrinsics[..., :3, :3], torch.linalg.inv(intrinsics) @ img_from_ref
    height, width = height_width.tolist()
    time = torch.zeros(batch, cameras, dtype=torch.long)
    return CameraRig(known, matrices, eye, (height, width), CAMERAS_DETR3D[:cameras], time)


def assert_matching(head: QueryHead, outputs: dict[str, Tensor], boxes: list[Boxes3D], golden: Golden) -> None:
    """Assignments ``out.assign.l{layer}.[b{sample}.]gt_inds``."""
    for layer, (logits, code) in enumerate(zip(outputs["cls_logits"], outputs["box_code"])):
        for sample, truth in enumerate(boxes):
            query, box = head.assigner.assign(logits[sample], code[sample], truth.label, head.coder.encode(truth))
            indices = torch.zeros(len(code[sample]), dtype=torch.long)
            indices[query] = box + 1
            expected = golden.group(f"out.assign.l{layer}")
            key = "gt_inds" if "gt_inds" in expected else f"b{sample}.gt_inds"
            assert torch.equal(indices, expected[key])


def assert_losses(losses: dict[str, Tensor], expected: dict[str, Tensor]) -> Tensor:
    """Every term and their sum, which is returned."""
    total = torch.stack([value.squeeze() for value in losses.values()]).sum()
    expected = dict(expected)
    torch.testing.assert_close(total, expected.pop("total").squeeze(), atol=1e-4, rtol=1e-4)
    assert set(losses) == set(expected)
    for name, value in losses.items():
        torch.testing.assert_close(value, expected[name].squeeze(), atol=1e-4, rtol=1e-4)
    return total


# Boxes whose scores differ by less may come in either order: float32 rounding decides it.
_TIE = 3e-6


def assert_boxes(boxes: Boxes3D, expected: dict[str, Tensor], convention: BoxConvention = "mmdet3d_v0") -> None:
    """``bboxes`` (M, 9), ``labels`` and ``scores`` of one frame; yaw is compared on the circle."""
    torch.testing.assert_close(boxes.score, expected["scores"], atol=2e-4, rtol=1e-4)
    array, wanted = boxes_to_array(boxes, convention, "center"), expected["bboxes"]
    cluster = torch.cat([torch.zeros(1), (-expected["scores"].diff() > _TIE).cumsum(0)]).tolist()
    ours, theirs = _order(cluster, boxes.label, array), _order(cluster, expected["labels"], wanted)
    assert torch.equal(boxes.label[ours], expected["labels"][theirs])
    array, wanted = array[ours], wanted[theirs]
    turn = array[:, 6] - wanted[:, 6]
    torch.testing.assert_close(turn.cos(), torch.ones_like(turn), atol=1e-6, rtol=0)
    torch.testing.assert_close(turn.sin(), torch.zeros_like(turn), atol=1e-3, rtol=0)
    others = [0, 1, 2, 3, 4, 5, 7, 8]
    torch.testing.assert_close(array[:, others], wanted[:, others], atol=2e-3, rtol=1e-3)


def _order(cluster: list[float], label: Tensor, array: Tensor) -> list[int]:
    """Indices by cluster of equal scores, then by label and place."""
    return sorted(range(len(label)), key=lambda i: (cluster[i], int(label[i]), float(array[i, 0])))
