"""Image and bird's-eye-view encoders."""

from bev.models.backbones.bev_encoder import BEVEncoder
from bev.models.backbones.bev_resnet import BEVResNet, BEVTrunk
from bev.models.backbones.csp_darknet import CSPDarknet
from bev.models.backbones.csp_rep import CSPRepResNet
from bev.models.backbones.darknet import Darknet53, TinyDarknet
from bev.models.backbones.efficientnet import EfficientNet
from bev.models.backbones.esnet import ESNet
from bev.models.backbones.lcnet import LCNet
from bev.models.backbones.mobilenet import MobileNetV2, MobileNetV3
from bev.models.backbones.repvgg import RepVGG
from bev.models.backbones.resnet import ResNet
from bev.models.backbones.shufflenet import ShuffleNetV2
from bev.models.backbones.ssd_vgg import SSDVGG
from bev.models.backbones.swin import SwinTransformer
from bev.models.backbones.unshuffle_net import UnshuffleNet
from bev.models.backbones.vovnet import VoVNet

__all__ = [
    "BEVEncoder",
    "BEVResNet",
    "BEVTrunk",
    "CSPDarknet",
    "CSPRepResNet",
    "Darknet53",
    "ESNet",
    "EfficientNet",
    "LCNet",
    "MobileNetV2",
    "MobileNetV3",
    "RepVGG",
    "ResNet",
    "SSDVGG",
    "ShuffleNetV2",
    "SwinTransformer",
    "TinyDarknet",
    "UnshuffleNet",
    "VoVNet",
]
