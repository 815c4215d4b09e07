"""From a graph's candidates to boxes, outside the graph; the settings are plain values that are kept with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bev.models.detectors.bev_segmenter import BEVSegmenter
from bev.models.detectors.dense import DenseDetector, in_picture, sizes_in_network
from bev.models.detectors.lift_splat import BEVDet
from bev.models.heads.center_head import CenterHead
from bev.models.heads.center_point_head import CenterPointHead
from bev.models.heads.center_suppression import CircleSuppression, RotatedSuppression
from bev.models.heads.dense.decoder import DenseDecoder
from bev.models.heads.query_head import QueryHead
from bev.ops.circle_nms import circle_nms
from bev.registry import MODELS
from bev.structures import Boxes2D, Boxes3D, ImageBatch
from bev.structures.boxes3d import Frame

_RULE = ("score_threshold", "nms_iou", "max_boxes", "clip", "voting", "suppression")
_ROTATED = ("overlap", "size_factors", "max_candidates", "max_boxes")


def finish_of(model: nn.Module, candidates: list[int] | None) -> dict[str, Any]:
    """What :func:`boxes3d_of` or :func:`boxes2d_of` must do for a detector.

    Raises:
        ValueError: a head or suppression without an export form.
    """
    if isinstance(model, DenseDetector):
        rule = model.head.decoder
        return {"kind": "dense", **{name: getattr(rule, name) for name in _RULE}}
    if isinstance(model, BEVSegmenter):
        return {"kind": "cells"}
    head = getattr(model, "pts_bbox_head", None)
    if isinstance(head, QueryHead):
        return {"kind": "query", "frame": head.coder.frame}
    if isinstance(head, CenterPointHead):
        rules = [_suppression(rule) for rule in head.suppression]
        labels, frame = head.task_labels, head.coder.frame
        return {"kind": "tasks", "frame": frame, "rules": rules, "labels": labels, "candidates": candidates}
    if isinstance(head, CenterHead):
        evidence = model.image_evidence if isinstance(model, BEVDet) else 0.0
        radius_m, most = head.nms_radius_m.tolist(), head.max_boxes
        return {"kind": "center", "frame": "lidar", "radius_m": radius_m, "max_boxes": most, "evidence": evidence}
    raise ValueError(f"{type(model).__name__} with a {type(head).__name__} has no export form")


def _suppression(rule: Any) -> dict[str, Any]:
    if isinstance(rule, CircleSuppression):
        return {"type": "CircleSuppression", "squared_radius_m2": rule.radius_m**2, "max_boxes": rule.max_boxes}
    if isinstance(rule, RotatedSuppression):
        return {"type": "RotatedSuppression", **{name: getattr(rule, name) for name in _ROTATED}}
    raise ValueError(f"suppression {type(rule).__name__} has no export form")


def boxes3d_of(outputs: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Boxes3D]:
    """A graph's outputs -> boxes of the reference frame, one entry a frame, by falling score.

    Args:
        outputs: arrays or tensors by name, see ``bev.deploy.decode``.
        settings: of :func:`finish_of`.

    Raises:
        ValueError: of a graph that gives no boxes.
    """
    if settings["kind"] == "cells":
        raise ValueError("this graph gives the probability of every cell, not boxes: run it with OnnxRunner")
    arrays = {name: torch.as_tensor(np.asarray(value)) for name, value in outputs.items()}
    return [_frame({name: value[i] for name, value in arrays.items()}, settings) for i in range(len(arrays["score"]))]


def _frame(row: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Boxes3D:
    frame: Frame = settings["frame"]
    columns = row["boxes"].float()
    parts = columns[:, :3], columns[:, 3:6], columns[:, 6], columns[:, 7:9]
    boxes, valid = Boxes3D(*parts, row["label"].long(), row["score"].float(), frame), row["valid"].bool()
    if settings["kind"] == "query":
        return boxes[valid]
    if settings["kind"] == "tasks":
        return _by_task(boxes, valid, settings)
    radius_m = torch.tensor(settings["radius_m"])[boxes.label[valid]]
    found = boxes[valid]
    kept = circle_nms(found.center_m[:, :2], found.score, found.label, radius_m)[: settings["max_boxes"]]
    found = found[kept]
    share = float(settings["evidence"])
    if not share:
        return found
    seen, evidence = row["seen"][valid][kept], row["evidence"][valid][kept]
    score = torch.where(seen, found.score ** (1 - share) * evidence**share, found.score)
    return replace(found, score=score)[score.argsort(descending=True, stable=True)]


def _by_task(boxes: Boxes3D, valid: Tensor, settings: Mapping[str, Any]) -> Boxes3D:
    parts, start = [], 0
    for count, rule, labels in zip(settings["candidates"], settings["rules"], settings["labels"]):
        rows = torch.arange(start, start + count)
        found = boxes[rows[valid[rows]]]
        task_class = (found.label[:, None] == torch.tensor(labels)).int().argmax(1)
        parts.append(found[MODELS.build(dict(rule))(found, task_class)])
        start += count
    joined = Boxes3D.cat(parts)
    return joined[joined.score.sort(descending=True, stable=True).indices]


def boxes2d_of(
    outputs: Mapping[str, Any], settings: Mapping[str, Any], sizes_px: list[tuple[float, float]]
) -> list[Boxes2D]:
    """A dense graph's outputs -> boxes in network px; ``sizes_px`` (H, W) of the pictures within the network image."""
    arrays = {name: torch.as_tensor(np.asarray(value)) for name, value in outputs.items()}
    rule = DenseDecoder(**{name: settings[name] for name in _RULE if name in settings})  # older files lack some
    found = []
    for i, size in enumerate(sizes_px):
        valid = arrays["valid"][i]
        rows = (arrays[name][i][valid] for name in ("boxes", "label", "score"))
        found.append(rule.suppress(Boxes2D(*rows), size))
    return found


def picture_boxes_of(outputs: Mapping[str, Any], settings: Mapping[str, Any], batch: ImageBatch) -> list[Boxes2D]:
    """A dense graph's outputs -> boxes in the px of each file's picture, within it, as the detector's ``predict``."""
    found = boxes2d_of(outputs, settings, sizes_in_network(batch))
    matrices = torch.linalg.inv(batch.network_from_picture.cpu())
    return [in_picture(boxes, matrix, size) for boxes, matrix, size in zip(found, matrices, batch.picture_px)]
