"""mmcv-lite, mmdet and mmdet3d with nothing compiled. ``import projects.mmdet3d`` before they are used is all it takes."""

from __future__ import annotations

from projects.mmdet3d.finder import install

install()
