"""Random weights under which signals and rounding behave as in a trained network.

A fresh network is no ruler for an export: with batch-norm statistics of nothing its signals vanish or explode, and
where every residual block adds as much as it was given, a rounding error of the first layer grows from block to block.
Trained networks are not like that. Here statistics are those of the example, and the last norm of a residual block has
the gain that it has in trained ones, well below one (it begins at zero where recipes follow Goyal et al.,
arXiv 1706.02677, section 5.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bev.models.backbones.resnet import BasicBlock, Bottleneck
from bev.models.conv_module import ResidualBlock
from bev.models.deform_conv import DeformConv2d, ModulatedDeformConv2d

RESIDUAL_GAIN = 0.2


@torch.no_grad()
def like_trained(model: nn.Module, forward: Callable[[], Any]) -> nn.Module:
    """Gains, offsets and statistics (in place); the model in evaluation mode.

    Args:
        model: with its initial weights.
        forward: one pass of it over the example.
    """
    for part in model.modules():
        if isinstance(part, (BasicBlock, Bottleneck, ResidualBlock)):
            nn.init.constant_(_last_norm(part).weight, RESIDUAL_GAIN)
        if isinstance(part, (DeformConv2d, ModulatedDeformConv2d)):
            # About half a cell: offsets of zero would sample nothing between cells.
            nn.init.normal_(part.conv_offset.weight, std=0.5 / (part.conv_offset.weight[0].numel() ** 0.5))
    return settle(model, forward)


def _last_norm(block: nn.Module) -> nn.BatchNorm2d:
    norm = {BasicBlock: "bn2", Bottleneck: "bn3", ResidualBlock: "conv2.bn"}[type(block)]
    found = block.get_submodule(norm)
    assert isinstance(found, nn.BatchNorm2d)
    return found


@torch.no_grad()
def settle(model: nn.Module, forward: Callable[[], Any]) -> nn.Module:
    """Batch-norm statistics of the example (in place); the model in evaluation mode."""
    for part in model.eval().modules():
        if isinstance(part, nn.BatchNorm2d):  # not 1d: numbers of one car's cameras have no spread
            part.train()
            part.momentum = 1.0
    forward()
    return model.eval()
