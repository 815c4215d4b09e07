"""Data sets, transforms, samplers."""

from bev.data import transforms
from bev.data.draw import Draw
from bev.data.folder import FolderDataset, KittiDataset
from bev.data.frames import FrameDataset
from bev.data.infos import InfoDataset, load_frame
from bev.data.nuscenes.dataset import NuScenesDataset

__all__ = [
    "Draw",
    "FolderDataset",
    "FrameDataset",
    "InfoDataset",
    "KittiDataset",
    "NuScenesDataset",
    "load_frame",
    "transforms",
]
