"""Multi-camera 3D and bird's-eye-view perception."""

from bev.version import __version__

__all__ = ["__version__"]
