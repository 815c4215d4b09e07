"""Configurations that the OpenMMLab packages install with themselves."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from bev._optional import require
from bev.registry import ConfigError, suggest

PACKAGES = ("mmdet", "mmdet3d")


def official_path(name: str) -> Path:
    """File of ``mmdet3d::pointpillars/NAME.py`` or ``mmdet::retinanet/NAME.py`` (``.py`` may be left out).

    Raises:
        ConfigError: another package, or no such file; names the nearest one.
        ImportError: the package is not installed; names the extra.
    """
    package, _, inner = name.partition("::")
    if package not in PACKAGES or not inner:
        raise ConfigError(f"config {name!r} is not of the form mmdet::FOLDER/NAME.py or mmdet3d::FOLDER/NAME.py")
    file = require(package, extra="mmdet3d").__file__
    assert file is not None
    folder = Path(file).parent / ".mim" / "configs"
    path = folder / (inner if inner.endswith(".py") else f"{inner}.py")
    if not path.is_file():
        known = [str(p.relative_to(folder)) for p in folder.rglob("*.py") if "_base_" not in p.parts]
        same = [p for p in known if p.split("/")[0] == inner.split("/")[0]]
        raise ConfigError(f"{package} has no config {inner!r}{suggest(inner, same or known)}")
    return path


def official_config(name: str) -> Config:
    """Read one, see :func:`official_path`."""
    return Config.fromfile(str(official_path(name)))
