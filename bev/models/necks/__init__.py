"""Feature pyramids."""

from bev.models.necks.fpn import FPN
from bev.models.necks.pafpn import YOLOXPAFPN
from bev.models.necks.top_down import TopDownNeck

__all__ = ["FPN", "TopDownNeck", "YOLOXPAFPN"]
