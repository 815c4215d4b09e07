"""BEVDepth as BEVDet's first generation builds it: separate networks for depth and context."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bev.geometry.bev_grid import BEVGrid
from bev.geometry.frustum import DepthBins
from bev.models.backbones.bev_resnet import BEVResNet
from bev.models.deform_conv import ModulatedDeformConv2d
from bev.models.view.published_geometry import sensor_matrices
from bev.models.view.published_lift import BEVDetView, Compat, DepthAndContext
from bev.registry import MODELS
from bev.structures import CameraRig

CAMERA_NUMBERS = 33


class CameraWeightedConv(nn.Module):
    """A 1x1 convolution whose channels are weighted by the camera's numbers (published as ``SELikeModule``)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.input_conv = nn.Conv2d(in_channels, channels, 1)
        self.fc = nn.Sequential(nn.BatchNorm1d(CAMERA_NUMBERS), nn.Linear(CAMERA_NUMBERS, channels), nn.Sigmoid())

    def forward(self, x: Tensor, numbers: Tensor) -> Tensor:
        """(M, C, H, W) and (M, 33) -> (M, channels, H, W)."""
        return self.input_conv(x) * self.fc(numbers)[..., None, None]


def sensor_numbers(rig: CameraRig) -> Tensor:
    """(B * N, 33): lens, image augmentation and pose of each camera, 9 + 9 + 3 + 9 + 3 numbers."""
    sensors = sensor_matrices(rig)
    parts = (
        sensors.intrinsics.flatten(-2),
        sensors.image_rotation.flatten(-2),
        sensors.image_translation_px,
        sensors.ref_from_cam_rotation.flatten(-2),
        sensors.ref_from_cam_translation_m,
    )
    return torch.cat(parts, -1).flatten(0, 1)


@MODELS.register_module()
class BEVDetDepthView(BEVDetView):
    """Context from one 1x1 convolution, depth from a camera-aware branch with a deformable convolution.

    Parameter names of BEVDet's first generation (``featnet``, ``se``, ``extra_depthnet``, ``dcn``, ``depthnet``).

    Args:
        in_channels: of the image features.
        depth_channels: width of the depth branch.
        others: see :class:`BEVDetView`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth_bins: DepthBins,
        grid: BEVGrid,
        stride_px: int,
        image_size_px: tuple[int, int],
        compat: Compat | None = "official",
        depth_channels: int = 256,
    ) -> None:
        super().__init__(in_channels, out_channels, depth_bins, grid, stride_px, image_size_px, compat)
        self.depthnet = nn.Conv2d(depth_channels, len(depth_bins), 1)
        self.featnet = nn.Conv2d(in_channels, out_channels, 1)
        self.se = CameraWeightedConv(in_channels, depth_channels)
        self.extra_depthnet = BEVResNet(depth_channels, (depth_channels,), (3,), (1,))
        deformable = ModulatedDeformConv2d(depth_channels, depth_channels, 3, 1, 1, bias=False)
        self.dcn = nn.Sequential(deformable, nn.BatchNorm2d(depth_channels))

    told = staticmethod(sensor_numbers)

    def depth_and_context(self, features: Tensor, rig: CameraRig) -> DepthAndContext:
        """Depth is told of each camera what :func:`sensor_numbers` gives."""
        numbers = self.told(rig).to(features)
        depth = self.dcn(self.extra_depthnet(self.se(features, numbers))[0])
        return DepthAndContext(self.depthnet(depth), self.featnet(features))
