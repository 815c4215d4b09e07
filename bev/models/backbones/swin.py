"""Swin transformer (Liu et al., ICCV 2021, arXiv 2103.14030) with the parameter names of mmdet and BEVDet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.registry import MODELS

_APART = -100.0  # added to the attention of pixels that only the cyclic shift brought together, as published


class WindowAttention(nn.Module):
    """Self-attention inside windows with a learned bias for every relative position.

    Args:
        channels, heads, window: of the tokens; number of heads; side of a window.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = place[:, None] - place[None] + window - 1
        self.register_buffer("relative_position_index", apart[..., 0] * (2 * window - 1) + apart[..., 1])
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """(B * W, T, C) tokens of W windows, and (W, T, T) what to add to their attention -> (B * W, T, C)."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        windows = tokens.shape[0]  # not len(): an exported batch would become a constant
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(windows // mask.shape[0], 1, 1, 1)
        mixed = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype).expand(windows, -1, -1, -1))
        return self.proj(mixed.transpose(1, 2).flatten(2))


class ShiftedWindows(nn.Module):
    """Windows over a padded map, moved by ``shift`` pixels.

    Args:
        channels, heads, window: as in :class:`WindowAttention`.
        shift: how far windows are moved to the lower right; 0 for none.
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.w_msa = WindowAttention(channels, heads, window)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        padded = x.shape[1:3]
        mask = None
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
            mask = self._mask(padded[0], padded[1], x.device)
        x = self._merge(self.w_msa(self._split(x), mask), padded[0], padded[1])
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x[:, :height, :width]

    def _split(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B * windows, window^2, C)."""
        x = x.unflatten(1, (-1, self.window)).unflatten(3, (-1, self.window))
        return x.transpose(2, 3).flatten(0, 2).flatten(1, 2)

    def _merge(self, windows: Tensor, height: int, width: int) -> Tensor:
        rows, columns = height // self.window, width // self.window
        x = windows.unflatten(1, (self.window, self.window)).unflatten(0, (-1, rows, columns))
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _mask(self, height: int, width: int, device: torch.device) -> Tensor:
        """(windows, T, T): pixels of different regions of the shifted map must not see each other."""

        def region(size: int) -> Tensor:
            position = torch.arange(size, device=device)
            return (position >= size - self.window).long() + (position >= size - self.shift).long()

        regions = 3 * region(height)[:, None] + region(width)
        tokens = self._split(regions[None, :, :, None])[..., 0]
        return torch.where(tokens[:, None] != tokens[:, :, None], _APART, 0.0)


class FeedForward(nn.Module):
    """Two linear layers with GELU, named as mmcv's FFN."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(channels, hidden), nn.GELU())
        self.layers = nn.Sequential(first, nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.layers(x)


class SwinBlock(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a shortcut that training may take alone."""

    def __init__(self, channels: int, heads: int, window: int, shift: int, hidden_ratio: int, drop: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = ShiftedWindows(channels, heads, window, shift)
        self.ffn, self.drop = FeedForward(channels, hidden_ratio * channels), drop

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x + self._maybe(self.attn(self.norm1(x)))
        return x + self._maybe(self.ffn(self.norm2(x)))

    def _maybe(self, branch: Tensor) -> Tensor:
        if not self.training or not self.drop:
            return branch
        keep = torch.rand(len(branch), 1, 1, 1, device=branch.device) >= self.drop
        return branch * keep / (1 - self.drop)


class PatchMerging(nn.Module):
    """2x2 pixels into one of twice the channels; a pixel's channels lie together in mmdet's order (channel first)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 2 C)."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        x = x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).permute(0, 1, 3, 5, 2, 4).flatten(3)
        return self.reduction(self.norm(x))


class SwinStage(nn.Module):
    """Blocks of one resolution and the merging that follows."""

    def __init__(
        self, channels: int, heads: int, depth: int, window: int, hidden_ratio: int, drops: Sequence[float], last: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(channels, heads, window, window // 2 if index % 2 else 0, hidden_ratio, drops[index])
            for index in range(depth)
        )
        self.downsample = None if last else PatchMerging(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> same, before the merging."""
        for block in self.blocks:
            x = block(x)
        return x


class PatchEmbedding(nn.Module):
    """A convolution of stride 4 and a norm."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.projection, self.norm = nn.Conv2d(3, channels, patch, patch), nn.LayerNorm(channels)
        self.patch = patch

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, ceil(H / 4), ceil(W / 4), C)."""
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        return self.norm(self.projection(images).permute(0, 2, 3, 1))


@MODELS.register_module()
class SwinTransformer(nn.Module):
    """Swin; the defaults are Swin-T.

    Args:
        channels: of the first stage; each further one has twice as many.
        depths, heads: blocks and attention heads of every stage.
        window: side of the windows.
        hidden_ratio: width of the feed-forward layers in channels.
        out_indices: stages (0 to 3, strides 4 to 32) whose maps are returned.
        drop_path: chance of the last block's branches to be left out in training; it rises linearly from the first.

    Raises:
        ValueError: stages that do not exist.
    """

    def __init__(
        self,
        channels: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        hidden_ratio: int = 4,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if len(depths) != len(heads) or not out_indices or not set(out_indices) <= set(range(len(depths))):
            raise ValueError(f"SwinTransformer: depths {depths}, heads {heads}, out_indices {out_indices} do not fit")
        self.out_indices = tuple(sorted(out_indices))
        self.patch_embed = PatchEmbedding(channels, 4)
        drops = [drop_path * index / max(sum(depths) - 1, 1) for index in range(sum(depths))]
        stages, self.out_channels = [], []
        for stage, depth in enumerate(depths):
            width, first = channels * 2**stage, sum(depths[:stage])
            part, last = drops[first : first + depth], stage == len(depths) - 1
            stages.append(SwinStage(width, heads[stage], depth, window, hidden_ratio, part, last))
            if stage in self.out_indices:
                self.add_module(f"norm{stage}", nn.LayerNorm(width))
                self.out_channels.append(width)
        self.stages = nn.ModuleList(stages)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images -> the maps of ``out_indices``, finest first."""
        x: Tensor = self.patch_embed(images)
        maps: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            assert isinstance(stage, SwinStage)
            x = stage(x)
            if index in self.out_indices:
                maps.append(getattr(self, f"norm{index}")(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = stage.downsample(x)
        return maps


_OFFICIAL = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^layers\.", "stages."),
    (r"\.attn\.", ".attn.w_msa."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
)


def official_filter(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' repository -> weights of :class:`SwinTransformer`, without classifier and last norm.

    The authors join the four pixels of a merging one after another (upper left, lower left, upper right, lower right);
    mmdet joins them channel by channel, row by row: ``downsample``'s columns are reordered.
    """
    renamed = {}
    for name, value in state_dict.items():
        if name.startswith(("head.", "norm.")) or name.endswith("attn_mask"):
            continue
        if ".downsample." in name:
            blocks = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
            value = blocks.transpose(-1, -2).flatten(-2)
        for pattern, replacement in _OFFICIAL:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed
