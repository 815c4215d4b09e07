"""Boxes as regression codes and back."""

from bev.models.coders.center_coder import CenterCoder

__all__ = ["CenterCoder"]
