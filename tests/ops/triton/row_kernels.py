"""Launches of the kernels over rows that are compiled for GPUs that are not here: see ``compilation``."""

from __future__ import annotations

from typing import Any

import triton.language as tl

from bev.ops.triton import bias_activation, layer_norm, masked_softmax

_STATISTICS = {"mean": "*fp32", "rstd": "*fp32"}
_TILE = {"ROWS": 8, "BLOCK": 256, "BLOCKS": 1, "WIDE": tl.float32}
_BLOCKS = {"ROWS": 1, "BLOCK": 8192, "BLOCKS": 3, "WIDE": tl.float32, "num_warps": 16}
_ADD = {"EPS": 1e-5, "HAS_RESIDUAL": True, "HAS_BIAS": True, "KEEP": True}
_ATTENTION = {"SCALE": 0.125, "HAS_MASK": True, "HAS_BIAS": True}
_COLUMNS = {"LANES": 64, "STEP": 32, "WIDE": tl.float32}
_ELEMENTS = {"GELU": True, "ROWS": 16, "LANES": 128, "WIDE": tl.float32}
_SIZES = ("rows", "columns", "chunk", "heads", "queries")
_STRIDES = tuple(f"{part}_{axis}" for part in ("mask", "bias") for axis in ("batch", "head", "query", "step"))
_WHOLE = dict.fromkeys((*_SIZES, *_STRIDES), "i32")


def _half(*names: str) -> dict[str, str]:
    return {**_WHOLE, **_STATISTICS, "forbidden": "*u8", "partial": "*fp32", **dict.fromkeys(names, "*bf16")}


# Kernel, types of its arguments that are not constants (pointers to float32 where not told), constants.
ROW_KERNELS: dict[str, tuple[Any, dict[str, str], dict[str, Any]]] = {
    "layer norm forward": (layer_norm._forward, _half("x", "residual", "out", "total"), {**_ADD, **_TILE}),
    "layer norm forward, wide": (layer_norm._forward, _half(), {**_ADD, **_BLOCKS}),
    "layer norm backward": (layer_norm._backward, _half("grad", "total", "out"), {"HAS_TOTAL": True, **_TILE}),
    "layer norm backward, wide": (layer_norm._backward, _half(), {"HAS_TOTAL": True, **_BLOCKS}),
    "layer norm sums": (layer_norm._sums, _half("grad", "below", "total"), _COLUMNS),
    "bias gelu forward": (bias_activation._forward, _half("x", "bias", "out"), _ELEMENTS),
    "bias gelu backward": (bias_activation._backward, _half("grad", "x", "bias", "out"), _ELEMENTS),
    "bias relu backward": (bias_activation._backward, _half(), {**_ELEMENTS, "GELU": False}),
    "softmax forward": (masked_softmax._forward, _half("logits", "bias", "out"), {**_ATTENTION, **_TILE}),
    "softmax forward, wide": (masked_softmax._forward, _half(), {**_ATTENTION, **_BLOCKS}),
    "softmax backward": (masked_softmax._backward, _half("share"), _TILE),
    "softmax backward, wide": (masked_softmax._backward, _half(), _BLOCKS),
}
