"""mmcv-lite, mmdet and mmdet3d with nothing compiled: ``import projects.mmdet3d`` before they are used."""

from __future__ import annotations

from projects.mmdet3d import finder, repairs
from projects.mmdet3d.official import official_config, official_path


def install() -> None:
    """Provide ``mmcv._ext`` and the repairs; importing this package has done it."""
    finder.install()
    repairs.install()


install()

__all__ = ["install", "official_config", "official_path"]
