"""Data sets, transforms, samplers."""

from bev.data import detection2d, transforms
from bev.data.detection2d import PictureDataset
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
    "PictureDataset",
    "detection2d",
    "load_frame",
    "transforms",
]
