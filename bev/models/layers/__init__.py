"""Small layers that several networks share."""

from bev.models.layers.deform_conv import ModulatedDeformConv2d

__all__ = ["ModulatedDeformConv2d"]
