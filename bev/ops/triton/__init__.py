"""GPU kernels in Triton; each is held to the plain form of its operator. Triton is optional: import these lazily."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch


def takes(device: torch.device) -> bool:
    """Whether tensors on a device go to the Triton kernels: CUDA, with Triton installed (torch for CUDA brings it)."""
    return device.type == "cuda" and _installed()


@cache
def _installed() -> bool:
    return find_spec("triton") is not None
