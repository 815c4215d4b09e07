"""Operators: one file each, with a plain reference form, a fast form and a gradient."""

from bev.ops.deformable_attention import multi_scale_deformable_attention

__all__ = ["multi_scale_deformable_attention"]
