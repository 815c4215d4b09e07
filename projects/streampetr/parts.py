"""Small parts of StreamPETR with the published parameter names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_FREQUENCIES = 6


class MotionLayerNorm(nn.Module):
    """A layer norm whose scale and shift are computed from a condition.

    Args:
        condition_dim: of the condition.
        embed_dim: of what is normalised.
    """

    def __init__(self, condition_dim: int, embed_dim: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Linear(condition_dim, embed_dim), nn.ReLU())
        self.gamma, self.beta = nn.Linear(embed_dim, embed_dim), nn.Linear(embed_dim, embed_dim)
        self.ln = nn.LayerNorm(embed_dim, elementwise_affine=False)
        for linear, bias in ((self.gamma, 1.0), (self.beta, 0.0)):  # starts as a plain layer norm
            nn.init.zeros_(linear.weight)
            nn.init.constant_(linear.bias, bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(..., embed_dim) and (..., condition_dim) -> (..., embed_dim)."""
        hidden = self.reduce(condition)
        return self.gamma(hidden) * self.ln(x) + self.beta(hidden)


class Gate(nn.Module):
    """Squeeze-and-excitation of every token alone: x times a sigmoid of what another tensor says."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.conv_reduce, self.conv_expand = nn.Linear(embed_dim, embed_dim), nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor, says: Tensor) -> Tensor:
        """(..., C) and (..., C) -> (..., C)."""
        return x * self.conv_expand(self.conv_reduce(says).relu()).sigmoid()


def encode_motion(motion: Tensor) -> Tensor:
    """(..., K) -> (..., 12 K): sine and cosine of each number at six doubling frequencies (NeRF's encoding)."""
    parts = []
    for power in range(_FREQUENCIES):
        parts += [(motion * 2.0**power).sin(), (motion * 2.0**power).cos()]
    return torch.cat(parts, -1)


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Linear, ReLU, linear."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
