"""Data sets, transforms, samplers.

The names below are imported when they are first used: the processes that draw the synthetic world need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bev.data.detection2d import PictureDataset
    from bev.data.draw import Draw
    from bev.data.folder import FolderDataset, KittiDataset
    from bev.data.frames import FrameDataset
    from bev.data.infos import InfoDataset, load_frame
    from bev.data.nuscenes.dataset import NuScenesDataset

_MODULES = {
    "Draw": "bev.data.draw",
    "FolderDataset": "bev.data.folder",
    "FrameDataset": "bev.data.frames",
    "InfoDataset": "bev.data.infos",
    "KittiDataset": "bev.data.folder",
    "NuScenesDataset": "bev.data.nuscenes.dataset",
    "PictureDataset": "bev.data.detection2d",
    "load_frame": "bev.data.infos",
}

__all__ = [
    "Draw",
    "FolderDataset",
    "FrameDataset",
    "InfoDataset",
    "KittiDataset",
    "NuScenesDataset",
    "PictureDataset",
    "load_frame",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
