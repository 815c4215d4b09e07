"""Numbers rounded to symmetric int8 and back, with a gradient: what quantisation-aware training sees.

The rounding is the one of exported graphs (QuantizeLinear and DequantizeLinear, zero point 0, -127..127; half to even).
Gradients pass where a number is within the range and are 0 where it is clipped (straight-through estimator; Jacob et
al., CVPR 2018, arXiv 1712.05877).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# A symmetric int8 on each side of zero.
LEVELS = 127


def fake_quantize(x: Tensor, threshold: Tensor) -> Tensor:
    """Round to int8 steps of one scale.

    Args:
        x: any shape and floating type.
        threshold: () float32, the magnitude that 127 stands for; larger ones are clipped.

    Returns:
        float32, shape of ``x``.
    """
    scale = threshold.clamp(min=1e-12) / LEVELS
    zero = torch.zeros((), dtype=torch.int32, device=x.device)
    return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, -LEVELS, LEVELS)


def fake_quantize_channels(weight: Tensor, axis: int = 0) -> Tensor:
    """Round weights to int8 steps, one scale for each index of ``axis``: its largest magnitude is 127.

    A batch norm behind the layer multiplies the channels by constants and so changes the scales but not the integers:
    rounding before it is folded or after is the same.
    """
    rest = [i for i in range(weight.ndim) if i != axis]
    scale = weight.detach().float().abs().amax(rest).clamp(min=1e-12) / LEVELS
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight.float(), scale, zero, axis, -LEVELS, LEVELS)


def threshold_of_least_error(counts: np.ndarray, levels: int = LEVELS) -> float:
    """Where to clip for the least squared error of rounding (below) and clipping (above).

    Args:
        counts: (bins,) of magnitudes, in equal bins from 0.
        levels: integers between 0 and the threshold.

    Returns:
        Number of bins below the threshold, a sixteenth of all to all.
    """
    bins = len(counts)
    place = np.arange(bins) + 0.5
    best, found = np.inf, float(bins)
    for stop in np.linspace(bins / 16, bins, 121):
        scale = stop / levels
        error = np.where(place < stop, scale**2 / 12, (place - stop) ** 2)
        cost = float((counts * error).sum())
        if cost < best:
            best, found = cost, float(stop)
    return found
