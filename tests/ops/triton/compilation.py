"""Compile every Triton kernel for GPUs that are not here; run as a script, prints the size of each binary."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from bev.ops.triton import bev_pool, deformable_attention
from tests.ops.triton.row_kernels import ROW_KERNELS

ATTENTION = {"HEADS": 8, "LEVELS": 4, "POINTS": 4, "CHANNELS": 32, "ROWS": 16, "LANES": 32}
POOL = {"BINS": 59, "CHANNELS": 80, "WIDE": tl.float32}
# Kernel, types of its arguments that are not constants, constants.
KERNELS = {
    "attention forward": (
        deformable_attention._forward,
        {"levels": "*i32", "rows": "i32", "queries": "i32", "pixels": "i32"},
        ATTENTION,
    ),
    "attention backward": (
        deformable_attention._backward,
        {"levels": "*i32", "rows": "i32", "queries": "i32", "pixels": "i32"},
        ATTENTION,
    ),
    "pool forward": (
        bev_pool._forward,
        {"order": "*i64", "offsets": "*i64", "rows": "i32", "cells": "i32"},
        {**POOL, "LANES": 64, "STEP": 8},
    ),
    "pool backward": (
        bev_pool._backward,
        {"cell_of_point": "*i64", "cells": "i32"},
        {**POOL, "LANES": 128, "STEP": 16},
    ),
    **ROW_KERNELS,
}


def main() -> None:
    """All kernels, all targets."""
    for name, (kernel, types, constants) in KERNELS.items():
        constants = dict(constants)
        options = {"num_warps": constants.pop("num_warps", 4)}
        signature = {a: "constexpr" if a in constants else types.get(a, "*fp32") for a in kernel.arg_names}
        for capability in (80, 90):
            source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
            binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
            print(name, capability, len(binary.asm["ptx"]), len(binary.asm["cubin"]))


if __name__ == "__main__":
    main()
