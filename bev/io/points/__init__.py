"""Point cloud files, one format a file: `read_points`, `write_points`."""

from bev.io.points.files import FORMATS, format_of, read_points, write_points
from bev.io.points.nuscenes import read_nuscenes_points, read_nuscenes_radar
from bev.io.points.velodyne import read_velodyne_scans

__all__ = [
    "FORMATS",
    "format_of",
    "read_nuscenes_points",
    "read_nuscenes_radar",
    "read_points",
    "read_velodyne_scans",
    "write_points",
]
