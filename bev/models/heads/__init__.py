"""Detection heads."""

from bev.models.heads.center_head import CenterHead

__all__ = ["CenterHead"]
