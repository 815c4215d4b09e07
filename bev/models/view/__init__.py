"""View transforms: images to bird's-eye view."""

from bev.models.view.lift_splat import LiftSplat

__all__ = ["LiftSplat"]
