"""Batch norms of a trained network as part of the convolutions before them."""

from __future__ import annotations

import torch
from torch import nn

from bev.models.backbones.efficientnet import SameConv2d
from bev.models.strided_conv import SparsePointwise2d

_PLAIN = (nn.Conv2d, SameConv2d, SparsePointwise2d)


def fold_batch_norms(module: nn.Module) -> int:
    """Fold every batch norm into the convolution that it directly follows in a sequence of the module (in place).

    Pairs are found where a module calls a convolution and its norm as ``conv`` and ``bn`` (``ConvModule`` and its
    kin) or as neighbours of an ``nn.Sequential``. The result is exact up to rounding; how many pairs there were.
    """
    count = 0
    for parent in list(module.modules()):
        for conv_name, norm_name in _pairs(parent):
            conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
            setattr(parent, conv_name, torch.nn.utils.fuse_conv_bn_eval(conv, norm))
            setattr(parent, norm_name, nn.Identity())
            count += 1
    return count


def _pairs(parent: nn.Module) -> list[tuple[str, str]]:
    children = dict(parent.named_children())
    names = list(children)
    near = list(zip(names, names[1:])) if isinstance(parent, nn.Sequential) else []
    # Names by which modules call a convolution and then its norm; torchvision's ResNet counts them, EfficientNet too.
    known = [("conv", "bn"), ("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("atrous_conv", "bn")]
    known += [("_conv_stem", "_bn0"), ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
    known += [("pointwise", "norm")]
    found = []
    for conv, norm in [*near, *known]:
        fits = type(children.get(conv)) in _PLAIN and type(children.get(norm)) is nn.BatchNorm2d
        if fits and children[conv].out_channels == children[norm].num_features:  # type: ignore[union-attr]
            found.append((conv, norm))
    return list(dict.fromkeys(found))
