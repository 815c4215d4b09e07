"""GPU kernels in Triton; each is held to the plain form of its operator. Triton is optional: import these lazily."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch

# Triton reads this when a kernel is decorated, once a process.
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def takes(device: torch.device) -> bool:
    """Whether tensors on a device go to the Triton kernels: CUDA, with Triton installed (torch for CUDA brings it).

    In a process started with ``TRITON_INTERPRET=1`` those of the CPU go there too, to the interpreter: that is how
    whole operators, gradients included, are tested without a GPU.
    """
    return (device.type == "cuda" or (_INTERPRETED and device.type == "cpu")) and _installed()


@cache
def _installed() -> bool:
    return find_spec("triton") is not None
