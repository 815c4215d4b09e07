"""Feature pyramids."""

from bev.models.necks.asff import ASFF
from bev.models.necks.bifpn import BiFPN
from bev.models.necks.csp_rep_pan import CSPRepPAN
from bev.models.necks.fpn import FPN
from bev.models.necks.light_pan import LightPAN
from bev.models.necks.lss_fpn import LSSFPN, SingleLevelFPN
from bev.models.necks.pafpn import PAFPN
from bev.models.necks.second_fpn import SecondFPN
from bev.models.necks.ssd_neck import SSDNeck
from bev.models.necks.top_down import TopDownNeck
from bev.models.necks.yolov3_neck import TinyYOLOv3Neck, YOLOv3Neck
from bev.models.necks.yolox_pafpn import YOLOXPAFPN

__all__ = [
    "ASFF",
    "BiFPN",
    "CSPRepPAN",
    "FPN",
    "LSSFPN",
    "LightPAN",
    "PAFPN",
    "SSDNeck",
    "SecondFPN",
    "SingleLevelFPN",
    "TinyYOLOv3Neck",
    "TopDownNeck",
    "YOLOXPAFPN",
    "YOLOv3Neck",
]
