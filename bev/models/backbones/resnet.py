"""ResNet with the parameter names of torchvision and mmdet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from bev.models.context_blocks import ContextPlugin, start_context_blocks
from bev.models.deform_conv import ModulatedDeformConv2d
from bev.models.strided_conv import conv2d
from bev.registry import MODELS

Style = Literal["pytorch", "caffe"]


class BlockOptions(NamedTuple):
    """What a residual block may have besides its shape.

    Attributes:
        style: where a bottleneck strides.
        deform_groups: of DCNv2 in place of the 3x3 convolution; 0 for a plain one.
        dilation: of the 3x3 convolution (of the first one in a basic block).
        plugins: attention blocks of this stage.
    """

    style: Style = "pytorch"
    deform_groups: int = 0
    dilation: int = 1
    plugins: tuple[ContextPlugin, ...] = ()


class _Residual(nn.Module):
    """What both blocks share: a block adds its plug-ins by position and calls them after that convolution."""

    last: int

    def add_plugins(self, plugins: Sequence[ContextPlugin], channels: Sequence[int]) -> None:
        """Build plug-ins for the convolutions of those widths; two of one kind get numbers in their names."""
        self.after: dict[int, list[str]] = {}
        for plugin in plugins:
            number = min(int(plugin.position[-1]), self.last)
            name, count = plugin.name, 1
            while hasattr(self, name):
                count += 1
                name = f"{plugin.name}{count}"
            self.add_module(name, plugin.build(channels[number - 1]))
            self.after.setdefault(number, []).append(name)

    def extend(self, x: Tensor, number: int) -> Tensor:
        """Run the plug-ins after convolution ``number``, 1 to 3."""
        for name in self.after.get(number, ()):
            x = getattr(self, name)(x)
        return x


class BasicBlock(_Residual):
    """Two 3x3 convolutions (depths 18 and 34)."""

    expansion, last = 1, 2

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, options: BlockOptions = BlockOptions()
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, channels, 3, stride, options.dilation, dilation=options.dilation, bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, 1, options.deform_groups)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(in_channels, channels, stride)
        self.add_plugins(options.plugins, (channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        identity = x if self.downsample is None else self.downsample(x)
        x = self.extend(self.relu(self.bn1(self.conv1(x))), 1)
        return self.relu(self.extend(self.bn2(self.conv2(x)), 2) + identity)


class Bottleneck(_Residual):
    """1x1, 3x3, 1x1 (depths 50, 101, 152); the stride sits on the 3x3 (pytorch) or on the first 1x1 (caffe)."""

    expansion, last = 4, 3

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, options: BlockOptions = BlockOptions()
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if options.style == "caffe" else (1, stride)
        self.conv1 = conv2d(in_channels, channels, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, second, options.deform_groups, options.dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(in_channels, channels * 4, stride)
        self.add_plugins(options.plugins, (channels, channels, channels * 4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        identity = x if self.downsample is None else self.downsample(x)
        x = self.extend(self.relu(self.bn1(self.conv1(x))), 1)
        x = self.extend(self.relu(self.bn2(self.conv2(x))), 2)
        return self.relu(self.extend(self.bn3(self.conv3(x)), 3) + identity)


def _conv3x3(channels: int, stride: int, deform_groups: int, dilation: int = 1) -> nn.Conv2d:
    if deform_groups:
        return ModulatedDeformConv2d(
            channels, channels, 3, stride, dilation, dilation, bias=False, deform_groups=deform_groups
        )
    return nn.Conv2d(channels, channels, 3, stride, dilation, dilation, bias=False)


def _downsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


_ARCHITECTURES: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


@MODELS.register_module()
class ResNet(nn.Module):
    """Deep residual network (He et al., CVPR 2016) as mmdet builds it.

    Args:
        depth: 18, 34, 50, 101 or 152.
        style: where a bottleneck strides; ``"caffe"`` for weights converted from Caffe (they also want BGR images).
        out_indices: stages (0 to 3, strides 4 to 32) whose maps are returned.
        frozen_stages: -1 trains everything; 0 freezes the stem, k the stem and the first k stages.
        norm_eval: batch norms keep their running statistics in training mode too.
        norm_frozen: batch norms' weights are not trained.
        dcn_stages: for each stage whether its 3x3 convolutions are deformable (DCNv2).
        deform_groups: of those.
        num_stages: stages that are built.
        base_channels: width of the stem and of the first stage.
        stage_blocks: number of blocks a stage where it is not that of ``depth``.
        strides, dilations: of the stages; a stride of 1 with a dilation of 2 keeps the resolution and the view of a
            stage (DeepLab's output strides 16 and 8).
        contract_dilation: a dilated stage's first block has half the dilation, as OpenMMLab's dilated networks do.
        plugins: attention blocks in the residual blocks of the stages they name.

    Raises:
        ValueError: unknown depth, stage, style, stride or dilation.
    """

    def __init__(
        self,
        depth: int,
        style: Style = "pytorch",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_frozen: bool = False,
        dcn_stages: Sequence[bool] = (False, False, False, False),
        deform_groups: int = 1,
        num_stages: int = 4,
        base_channels: int = 64,
        stage_blocks: Sequence[int] | None = None,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        contract_dilation: bool = False,
        plugins: Sequence[ContextPlugin] = (),
    ) -> None:
        super().__init__()
        _check(depth, style, out_indices, frozen_stages, dcn_stages, num_stages)
        _check_stages(num_stages, strides, dilations, plugins)
        block, blocks = _ARCHITECTURES[depth]
        self.out_indices, self.frozen_stages, self.norm_eval = tuple(out_indices), frozen_stages, norm_eval
        self.conv1 = nn.Conv2d(3, base_channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(base_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels, self.out_channels = base_channels, []
        for stage, count in enumerate((stage_blocks or blocks)[:num_stages]):
            groups, dilation = deform_groups if dcn_stages[stage] else 0, dilations[stage]
            own = tuple(plugin for plugin in plugins if plugin.stages[stage])
            first = max(1, dilation // 2) if contract_dilation else dilation
            width, layers = base_channels * 2**stage, []
            for index in range(count):
                options = BlockOptions(style, groups, dilation if index else first, own)
                layers.append(block(channels, width, 1 if index else strides[stage], options))
                channels = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
            self.out_channels.append(channels)
        self.out_channels = [self.out_channels[stage] for stage in out_indices]
        self._initialise()
        for norm in _norms(self) if norm_frozen else []:
            norm.requires_grad_(False)
        for module in self._frozen_modules():
            module.requires_grad_(False)

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.endswith("conv_offset"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        start_context_blocks(self)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.conv1, self.bn1, *(getattr(self, f"layer{k + 1}") for k in range(self.frozen_stages))]

    def train(self, mode: bool = True) -> ResNet:
        """Training mode, except for what is frozen: those norms keep their running statistics."""
        super().train(mode)
        frozen = [self] if self.norm_eval else self._frozen_modules()
        for norm in (n for module in frozen for n in _norms(module)):
            norm.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the maps of ``out_indices``, finest first."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = []
        for stage in range(max(self.out_indices) + 1):
            x = getattr(self, f"layer{stage + 1}")(x)
            if stage in self.out_indices:
                maps.append(x)
        return maps


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def _check(
    depth: int,
    style: str,
    out_indices: Sequence[int],
    frozen_stages: int,
    dcn_stages: Sequence[bool],
    num_stages: int,
) -> None:
    if depth not in _ARCHITECTURES:
        raise ValueError(f"ResNet depth {depth} is not one of {sorted(_ARCHITECTURES)}")
    if style not in ("pytorch", "caffe"):
        raise ValueError(f"ResNet style {style!r} is neither 'pytorch' nor 'caffe'")
    rising = bool(out_indices) and list(out_indices) == sorted(set(out_indices))
    if not rising or not set(out_indices) <= set(range(num_stages)):
        raise ValueError(f"ResNet out_indices {tuple(out_indices)} must be rising stages of 0 to {num_stages - 1}")
    if not 1 <= num_stages <= 4 or not -1 <= frozen_stages <= num_stages or len(dcn_stages) < num_stages:
        raise ValueError(
            f"ResNet has up to 4 stages, got num_stages={num_stages}, frozen_stages={frozen_stages}, "
            f"dcn_stages={tuple(dcn_stages)}"
        )


def _check_stages(
    num_stages: int, strides: Sequence[int], dilations: Sequence[int], plugins: Sequence[ContextPlugin]
) -> None:
    for name, values in (("strides", strides), ("dilations", dilations)):
        if len(values) < num_stages or any(value < 1 for value in values):
            raise ValueError(f"ResNet {name} {tuple(values)} must be {num_stages} numbers from 1 on")
    for plugin in plugins:
        if len(plugin.stages) < num_stages:
            raise ValueError(f"ResNet of {num_stages} stages: {type(plugin).__name__} names {plugin.stages}")
