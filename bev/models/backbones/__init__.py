"""Image backbones."""

from bev.models.backbones.resnet import ResNet

__all__ = ["ResNet"]
