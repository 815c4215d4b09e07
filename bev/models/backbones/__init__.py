"""Image and bird's-eye-view encoders."""

from bev.models.backbones.bev_encoder import BEVEncoder
from bev.models.backbones.csp_darknet import CSPDarknet
from bev.models.backbones.resnet import ResNet
from bev.models.backbones.unshuffle_net import UnshuffleNet

__all__ = ["BEVEncoder", "CSPDarknet", "ResNet", "UnshuffleNet"]
