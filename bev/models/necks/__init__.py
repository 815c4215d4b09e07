"""Feature pyramids."""

from bev.models.necks.top_down import TopDownNeck

__all__ = ["TopDownNeck"]
