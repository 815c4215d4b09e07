"""Attention over channels and places that backbones take as plug-ins: squeeze-excitation, global context, non-local.

A plug-in in a configuration is a part with a ``build(channels)``, as norms are; a backbone builds one for every block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from bev.models.conv_module import Activation, ConvModule, build_activation
from bev.registry import MODELS

Position = Literal["after_conv1", "after_conv2", "after_conv3"]


class SqueezeExcitation(nn.Module):
    """Each channel times a factor that the means of all channels choose (Hu et al., CVPR 2018, arXiv 1709.01507).

    Args:
        channels: of the map.
        squeezed: width between the two 1x1 convolutions.
        activation: between them.
        gate: of the factors.
        names: of the two convolutions (torchvision's; RepVGG has ``down`` and ``up``).
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        activation: Activation = "relu",
        gate: Activation = "sigmoid",
        names: tuple[str, str] = ("fc1", "fc2"),
    ) -> None:
        super().__init__()
        self.names = names
        self.add_module(names[0], nn.Conv2d(channels, squeezed, 1))
        self.add_module(names[1], nn.Conv2d(squeezed, channels, 1))
        self.activation, self.gate = build_activation(activation), build_activation(gate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        mean = x.mean((2, 3), keepdim=True)
        reduce, expand = (getattr(self, name) for name in self.names)
        return x * self.gate(expand(self.activation(reduce(mean))))


class ContextBlock(nn.Module):
    """One attention map for all places; what it gathers is added to every place (GCNet, arXiv 1904.11492, figure 4d).

    ``z = x + W2 ReLU(LN(W1 sum_j softmax_j(Wk x_j) x_j))``; parameters named as mmcv's. It begins as the identity.

    Args:
        channels: of the map.
        ratio: width of the bottleneck, as a share of ``channels``.
    """

    def __init__(self, channels: int, ratio: float = 1 / 16) -> None:
        super().__init__()
        hidden = max(1, int(channels * ratio))
        self.conv_mask = nn.Conv2d(channels, 1, 1)
        self.channel_add_conv = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.LayerNorm([hidden, 1, 1]),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
        )
        nn.init.kaiming_normal_(self.conv_mask.weight, mode="fan_in", nonlinearity="relu")
        self.start()

    def start(self) -> None:
        """Add nothing at first."""
        for parameter in self.channel_add_conv[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        share = self.conv_mask(x).flatten(2).softmax(-1)  # (B, 1, H W)
        context = x.flatten(2) @ share.transpose(1, 2)  # (B, C, 1)
        added: Tensor = self.channel_add_conv(context.unsqueeze(-1))
        return x + added


class NonLocalBlock(nn.Module):
    """Every place gathers from all places (Wang et al., CVPR 2018, arXiv 1711.07971), embedded Gaussian form.

    ``z_i = x_i + BN(Wz sum_j softmax_j(theta(x_i) . phi(x_j)) g(x_j))``; names of mmcv. It begins as the identity.

    Args:
        channels: of the map.
        reduction: of the width within.
        scaled: divide the products by the root of that width.
        subsample: keys and values are 2x2 maxima (section 3.3), a quarter of the work.
    """

    def __init__(self, channels: int, reduction: int = 2, scaled: bool = True, subsample: bool = False) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.scale = hidden**-0.5 if scaled else 1.0
        self.g = ConvModule(channels, hidden, 1, norm=None, activation=False)
        self.theta = ConvModule(channels, hidden, 1, norm=None, activation=False)
        self.phi = ConvModule(channels, hidden, 1, norm=None, activation=False)
        self.conv_out = ConvModule(hidden, channels, 1, activation=False)
        self.pool = nn.MaxPool2d(2) if subsample else nn.Identity()
        for part in (self.g, self.theta, self.phi):
            nn.init.normal_(part.conv.weight, std=0.01)
        self.start()

    def start(self) -> None:
        """Add nothing at first."""
        norm = self.conv_out.get_submodule("bn")
        for values in norm.parameters():
            nn.init.zeros_(values)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape; memory grows with the square of H W (a quarter of it when subsampled)."""
        query = self.theta(x).flatten(2).transpose(1, 2)  # (B, H W, C')
        key, value = self.pool(self.phi(x)).flatten(2), self.pool(self.g(x)).flatten(2)  # (B, C', S)
        share = (query @ key * self.scale).softmax(-1)
        gathered = (share @ value.transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
        added: Tensor = self.conv_out(gathered)
        return x + added


class ContextPlugin(ABC):
    """Which attention follows a convolution of a residual block; a part of a configuration.

    Args:
        stages: for each of the backbone's four stages whether its blocks have it.
        position: after which of the block's convolutions, norm included; ``after_conv3`` is before the sum with the
            shortcut (``after_conv2`` in blocks of two convolutions).

    Attributes:
        name: of the module within the block.
    """

    name: str

    def __init__(
        self, stages: tuple[bool, ...] = (False, True, True, True), position: Position = "after_conv3"
    ) -> None:
        if position not in ("after_conv1", "after_conv2", "after_conv3"):
            raise ValueError(f"{type(self).__name__} position {position!r} is not after_conv1, 2 or 3")
        self.stages, self.position = tuple(stages), position

    @abstractmethod
    def build(self, channels: int) -> nn.Module:
        """The block for a map of that many channels."""


@MODELS.register_module()
class SE(ContextPlugin):
    """:class:`SqueezeExcitation` to ``1 / reduction`` of the width."""

    name = "se"

    def __init__(
        self,
        stages: tuple[bool, ...] = (True, True, True, True),
        position: Position = "after_conv3",
        reduction: int = 16,
    ) -> None:
        super().__init__(stages, position)
        self.reduction = reduction

    def build(self, channels: int) -> nn.Module:
        return SqueezeExcitation(channels, max(1, channels // self.reduction))


@MODELS.register_module()
class GlobalContext(ContextPlugin):
    """:class:`ContextBlock`; as published in stages 1 to 3 with ``ratio`` 1/16 or 1/4."""

    name = "context_block"

    def __init__(
        self,
        stages: tuple[bool, ...] = (False, True, True, True),
        position: Position = "after_conv3",
        ratio: float = 1 / 16,
    ) -> None:
        super().__init__(stages, position)
        self.ratio = ratio

    def build(self, channels: int) -> nn.Module:
        return ContextBlock(channels, self.ratio)


@MODELS.register_module()
class NonLocal(ContextPlugin):
    """:class:`NonLocalBlock`."""

    name = "nonlocal_block"

    def __init__(
        self,
        stages: tuple[bool, ...] = (False, False, True, False),
        position: Position = "after_conv3",
        reduction: int = 2,
        subsample: bool = False,
    ) -> None:
        super().__init__(stages, position)
        self.reduction, self.subsample = reduction, subsample

    def build(self, channels: int) -> nn.Module:
        return NonLocalBlock(channels, self.reduction, subsample=self.subsample)


def start_context_blocks(module: nn.Module) -> None:
    """Let every context and non-local block within a module begin as the identity again, after an initialisation."""
    for block in module.modules():
        if isinstance(block, (ContextBlock, NonLocalBlock)):
            block.start()
