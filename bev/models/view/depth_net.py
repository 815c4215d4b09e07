"""BEVDepth's depth network: it sees the camera's numbers, not its picture alone (arXiv 2206.10092, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.backbones.resnet import BasicBlock
from bev.models.deform_conv import DeformConv2d
from bev.registry import MODELS
from bev.structures import CameraRig

CAMERA_NUMBERS = 27


def camera_numbers(rig: CameraRig, augmented_from_ref: Tensor | None = None) -> Tensor:
    """What the published depth network is told of each camera.

    Args:
        rig: with batch axis, B and N.
        augmented_from_ref: (B, 4, 4) augmentation of the reference frame that the rig does not hold. Where the rig
            holds it (``CameraRig.augment_ref``) leave it out: the same facts then stand in the camera's pose.

    Returns:
        (B * N, 27) float32: fx, fy, cx, cy; rows of the image augmentation (two of its linear part and its shift);
        the augmentation's xx, xy, yx, yy, zz; the twelve numbers of ``ref_from_cam``.
    """
    k, aug = rig.intrinsics.double(), rig.image_aug.double()
    ref_from_cam = torch.linalg.inv(rig.cam_from_ref.double())
    if augmented_from_ref is None:
        augmented_from_ref = torch.eye(4, device=k.device).expand(len(k), 4, 4)
    bda = augmented_from_ref.double()[:, None].expand(-1, rig.num_cameras, 4, 4)
    lens = [k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]]
    image = [aug[..., row, column] for row in (0, 1) for column in (0, 1, 2)]
    turn = [bda[..., 0, 0], bda[..., 0, 1], bda[..., 1, 0], bda[..., 1, 1], bda[..., 2, 2]]
    numbers = torch.cat([torch.stack(lens + image + turn, -1), ref_from_cam[..., :3, :].flatten(-2)], -1)
    return numbers.flatten(0, 1).float()


class Mlp(nn.Module):
    """Linear, ReLU, linear."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(in_features, out_features), nn.Linear(out_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """(M, in) -> (M, out)."""
        return self.fc2(F.relu(self.fc1(x)))


class CameraGate(nn.Module):
    """Channels of a map scaled by what the camera's code says (squeeze-and-excitation without the squeeze)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_reduce, self.conv_expand = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """(M, C, H, W) maps and (M, C) codes -> (M, C, H, W)."""
        return x * self.conv_expand(F.relu(self.conv_reduce(code[..., None, None]))).sigmoid()


class AtrousBranch(nn.Module):
    """One dilated convolution with norm and ReLU."""

    def __init__(self, in_channels: int, channels: int, dilation: int) -> None:
        super().__init__()
        kernel = 1 if dilation == 1 else 3
        padding = 0 if dilation == 1 else dilation
        self.atrous_conv = nn.Conv2d(in_channels, channels, kernel, padding=padding, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, H, W) -> (M, C', H, W)."""
        return F.relu(self.bn(self.atrous_conv(x)))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (DeepLab v3, arXiv 1706.05587) at rates 1, 6, 12 and 18 and the map's mean.

    Args:
        in_channels, channels: of the input; of every branch and of the result.
        dropout: of the result in training.
    """

    def __init__(self, in_channels: int, channels: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.aspp1 = AtrousBranch(in_channels, channels, 1)
        self.aspp2 = AtrousBranch(in_channels, channels, 6)
        self.aspp3 = AtrousBranch(in_channels, channels, 12)
        self.aspp4 = AtrousBranch(in_channels, channels, 18)
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.conv1 = nn.Conv2d(5 * channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, H, W) -> (M, channels, H, W)."""
        mean = self.global_avg_pool(x).expand(-1, -1, *x.shape[-2:])
        branches = [self.aspp1(x), self.aspp2(x), self.aspp3(x), self.aspp4(x), mean]
        return self.dropout(F.relu(self.bn1(self.conv1(torch.cat(branches, 1)))))


@MODELS.register_module()
class DepthNet(nn.Module):
    """Depth logits and context of image features, both gated by the camera's numbers.

    Args:
        in_channels: of the features.
        mid_channels: width of everything inside.
        context_channels: of the context.
        depth_channels: number of depth bins.
        deformable: the fifth depth layer is a deformable convolution (DCNv1, four groups), as BEVDepth publishes it;
            False leaves it out, as BEVDet's second generation may (its keys then shift by one).
        dropout: of the pyramid.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        context_channels: int,
        depth_channels: int,
        deformable: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.reduce_conv = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, 3, padding=1), nn.BatchNorm2d(mid_channels), nn.ReLU(inplace=True)
        )
        self.context_conv = nn.Conv2d(mid_channels, context_channels, 1)
        self.bn = nn.BatchNorm1d(CAMERA_NUMBERS)
        self.depth_mlp, self.depth_se = Mlp(CAMERA_NUMBERS, mid_channels), CameraGate(mid_channels)
        self.context_mlp, self.context_se = Mlp(CAMERA_NUMBERS, mid_channels), CameraGate(mid_channels)
        layers: list[nn.Module] = [BasicBlock(mid_channels, mid_channels) for _ in range(3)]
        layers.append(ASPP(mid_channels, mid_channels, dropout))
        if deformable:
            layers.append(DeformConv2d(mid_channels, mid_channels, 3, padding=1, groups=4))
        self.depth_conv = nn.Sequential(*layers, nn.Conv2d(mid_channels, depth_channels, 1))

    def forward(self, features: Tensor, rig: CameraRig) -> Tensor:
        """(B * N, C, H, W) features and their rig -> (B * N, D + C', H, W), depth logits first."""
        return self.estimate(features, camera_numbers(rig).to(features))

    def estimate(self, features: Tensor, numbers: Tensor) -> Tensor:
        """As :meth:`forward`, from (B * N, 27) :func:`camera_numbers`."""
        numbers = self.bn(numbers)
        x = self.reduce_conv(features)
        context = self.context_conv(self.context_se(x, self.context_mlp(numbers)))
        depth = self.depth_conv(self.depth_se(x, self.depth_mlp(numbers)))
        return torch.cat([depth, context], 1)
