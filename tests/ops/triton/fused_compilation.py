"""Compile the fused kernels for GPUs that are not here, in single and half precision; run as a script."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bev.ops.triton import camera_sampling, candidates, deform_conv
from bev.ops.triton import folded_deformable_attention as attention
from bev.ops.triton import suppression
from tests.ops.triton.operator_signatures import KERNELS as OPERATORS

ATTENTION = {**attention.constants(8, 4, 8, 32, (1, 4, 2)), "WIDE": tl.float32}
BOXES = {**attention.constants(8, 4, 4, 32, (4, 1, 4)), "WIDE": tl.float32}
SAMPLING = {"CAMERAS": 6, "POINTS": 1, "CHANNELS": 256, "PROJECT": True, "WIDE": tl.float32, "LANES": 256}
MAPS = ("*{0}",) * 4
STEPS = (("i32",) * 7,) * 4
SMALL: dict[str, Any] = {"PEAKS": True, "KEEP": 500, "BLOCK": 2048}
CONV = deform_conv.constants(256, 1, (3, 3), masked=True)
LONG = {"keys": "*i64", "groups": "*i64", "bits": "*i64"}
WHOLE = {"levels": "*i32", "labels": "*i64", "valid": "*i8", "visible": "*u8"}
LIMITS = ("fp32",) * 6
# Kernel, types of arguments that are neither sizes (i32), tensors in the precision {0} nor constants, constants.
KERNELS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "attention forward": (attention._forward, {}, ATTENTION),
    "attention backward": (attention._backward, {"grad_locations": "*fp32"}, {**ATTENTION, "MOVES": False}),
    "attention with boxes backward": (attention._backward, {"grad_locations": "*fp32"}, {**BOXES, "MOVES": True}),
    "camera sampling forward": (camera_sampling._forward, {"features": MAPS, "maps": STEPS}, SAMPLING),
    "camera sampling backward": (
        camera_sampling._backward,
        {"features": MAPS, "maps": STEPS, "grad_features": ("*fp32",) * 4},
        SAMPLING,
    ),
    "sampling at pixels": (
        camera_sampling._forward,
        {"features": MAPS, "maps": STEPS, "second": "*u8"},
        {**SAMPLING, "PROJECT": False},
    ),
    "upright words": (
        suppression._words,
        {"boxes": "*fp32", "out": "*i64", "threshold": "fp32"},
        {"GROUPED": True, "ROTATED": False, "OFFSET": 0, "ROWS": 16},
    ),
    "rotated words": (
        suppression._words,
        {"boxes": "*fp32", "out": "*i64", "threshold": "fp32"},
        {"GROUPED": False, "ROTATED": True, "OFFSET": 0, "ROWS": 16},
    ),
    "suppression": (suppression._decide, {"out": "*i8"}, {"LANES": 16}),
    "rotated areas": (suppression._areas, {"boxes1": "*fp32", "boxes2": "*fp32", "out": "*fp32"}, {"TILE": 32}),
    "rank scores": (candidates._rank_scores, {"out": "*i64"}, SMALL),
    "rank keys": (candidates._rank_keys, {"out": "*i64"}, {"KEEP": 500, "BLOCK": 2048}),
    "finish queries": (
        candidates._finish_queries,
        {"threshold": "fp32", "limits": LIMITS, "boxes": "*fp32", "scores": "*fp32"},
        {"CODE": 10, "LEGACY": True, "BLOCK": 2048},
    ),
    "finish cells": (
        candidates._finish_cells,
        {
            "columns": ("*{0}",) * 10,
            "steps": ("i32",) * 10,
            "threshold": "fp32",
            "grid": ("fp32",) * 5,
            "limits": LIMITS,
            "boxes": "*fp32",
            "scores": "*fp32",
        },
        {"LEGACY": True, "LIMITED": True, "BLOCK": 2048},
    ),
    "deformable convolution": (deform_conv._modulated, {}, CONV),
    **OPERATORS,
}
SIZES = (
    "rows queries pixels value_step offset_b offset_q offset_h logit_b logit_q logit_h image_height image_width cells "
    "count words count1 count2 per_frame step width height classes out_channels out_height out_width stride_y stride_x "
    "pad_y pad_x dilation_y dilation_x"
).split()


def _in(precision: str, kind: Any) -> Any:
    return tuple(_in(precision, part) for part in kind) if isinstance(kind, tuple) else kind.format(precision)


def signature(kernel: Any, types: dict[str, Any], constants: dict[str, Any], precision: str) -> dict[str, Any]:
    """Types of a kernel's arguments for a precision of its tensors."""
    known = {**dict.fromkeys(SIZES, "i32"), **LONG, **WHOLE, **types, **dict.fromkeys(constants, "constexpr")}
    return {name: _in(precision, known.get(name, "*{0}")) for name in kernel.arg_names}


RANKING = ("rank scores", "rank keys", "finish queries", "finish cells")


def main(names: Sequence[str]) -> None:
    """The named kernels, or all: for sm_80 in single precision, for sm_90 in half precision."""
    for name in names or KERNELS:
        kernel, types, constants = KERNELS[name]
        options = {"num_warps": candidates.WARPS} if name in RANKING else {}
        for capability, precision in ((80, "fp32"), (90, "bf16")):
            kinds = signature(kernel, types, constants, precision)
            source = ASTSource(fn=kernel, signature=kinds, constexprs=constants)
            binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
            print(name, precision, capability, len(binary.asm["ptx"]), len(binary.asm["cubin"]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
