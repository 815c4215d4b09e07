"""View transforms: images to bird's-eye view."""

from bev.models.view.bevdet_depth_view import BEVDetDepthView
from bev.models.view.depth_net import ASPP, DepthNet, camera_numbers
from bev.models.view.ipm import InversePerspective
from bev.models.view.lift_splat import LiftSplat
from bev.models.view.published_lift import BEVDepthView, BEVDetView

__all__ = ["ASPP", "BEVDepthView", "BEVDetDepthView", "BEVDetView", "DepthNet", "InversePerspective", "LiftSplat", "camera_numbers"]
