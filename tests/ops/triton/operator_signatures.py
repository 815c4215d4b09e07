"""Launches of the kernels of regions, losses and points that are compiled for GPUs that are not here."""

from __future__ import annotations

from typing import Any

import triton.language as tl

from bev.ops.triton import carafe, focal_loss, point_sets, points_in_boxes, roi_align, roi_pool

_REGIONS = {"BINS": 16, "LANES": 64, "WIDE": tl.float32}
_PICKED = {"picture": "*i64", "frames": "*fp32", "counts": "*i32", "grad_maps": "*fp32"}
_PICKED |= dict.fromkeys(("batch", "channels", "down", "across"), "i32")
_LOSS = {"label": "*i64", "gamma": "fp32", "alpha": "fp32"}
_POINTS = {name: "*fp32" for name in ("points", "centers", "targets", "sources", "distance", "distances")}
_POINTS |= {"chosen": "*i64", "indices": "*i64", "number": "i32", "asked": "i32", "least": "fp32", "most": "fp32"}
_TILE = {"QUERIES": 16, "POINTS": 64}
_BOXES = {"points": "*fp32", "boxes": "*fp32", "count": "i32", "number": "i32"}
_BOX_TILE = {"POINTS": 128, "BOXES": 16}
_UPSAMPLING = {"SIDE": 5, "SCALE": 2, "PIXELS": 64, "LANES": 16, "WIDE": tl.float32}
# As in ``fused_compilation``.
KERNELS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "roi align forward": (roi_align._forward, _PICKED, _REGIONS),
    "roi align backward": (roi_align._backward, _PICKED, _REGIONS),
    "focal loss forward": (focal_loss._forward, _LOSS, {"BLOCK": 1024, "WIDE": tl.float32}),
    "focal loss backward": (focal_loss._backward, _LOSS, {"BLOCK": 1024, "WIDE": tl.float32}),
    "furthest points": (point_sets._furthest, _POINTS, {"AXES": 3, "BLOCK": 1024}),
    "ball query": (point_sets._ball, {**_POINTS, "out": "*i64"}, {**_TILE, "COUNT": 32, "SLOTS": 32}),
    "three nearest": (point_sets._nearest, _POINTS, _TILE),
    "points in boxes": (points_in_boxes._members, {**_BOXES, "out": "*i8"}, _BOX_TILE),
    "first box": (points_in_boxes._first, {**_BOXES, "out": "*i64"}, _BOX_TILE),
    "carafe forward": (carafe._forward, {"share": "i32"}, _UPSAMPLING),
    "carafe, gradient of maps": (carafe._by_maps, {"share": "i32"}, _UPSAMPLING),
    "carafe, gradient of masks": (carafe._by_masks, {"share": "i32"}, _UPSAMPLING),
    "roi pool": (
        roi_pool._forward,
        {**_PICKED, "rows": "*i64", "columns": "*i64", "source": "*i64"},
        {"LANES": 128},
    ),
}
