"""What the networks of dense heads share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Maps = dict[str, list[Tensor]]
"""Raw outputs: for ``cls``, ``box`` and perhaps ``quality`` one map (B, A * K, H, W) a level, A priors a cell."""

BoxForm = Literal["plain", "exp", "relu", "exp_strides"]
QualityFrom = Literal["cls", "box"]


class Scale(nn.Module):
    """A learnt factor that begins at one."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * self.scale


def box_values(values: Tensor, scale: nn.Module | None, form: BoxForm, stride_px: float) -> Tensor:
    """What a box convolution gave, as the coder takes it.

    Args:
        values: (B, A * K, H, W).
        scale: of the level, or None.
        form: ``plain``; ``exp`` px distances (FCOS); ``relu`` distances in strides, as px (FCOS with normalised
            targets); ``exp_strides`` the same with the scale outside the exponential (RTMDet).
        stride_px: of the level.
    """
    if form == "exp_strides":
        values = values.exp()
    if scale is not None:
        values = scale(values)
    if form == "exp":
        return values.float().exp()
    return {"plain": values, "relu": values.relu() * stride_px, "exp_strides": values * stride_px}[form]


def prior_bias(probability: float) -> float:
    """Bias of a sigmoid that begins at that probability (RetinaNet, section 4.1)."""
    return -math.log((1 - probability) / probability)


def start_predictor(convs: Sequence[nn.Conv2d], probability: float | None = None, std: float | None = 0.01) -> None:
    """Initialise last convolutions: normal weights (None: torch's own), zero bias or that of a probability."""
    for conv in convs:
        if std is not None:
            nn.init.normal_(conv.weight, std=std)
        if conv.bias is not None:
            nn.init.constant_(conv.bias, 0.0 if probability is None else prior_bias(probability))
