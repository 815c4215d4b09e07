"""Point cloud files, one format a file."""

from bev.io.points.nuscenes import read_nuscenes_points

__all__ = ["read_nuscenes_points"]
