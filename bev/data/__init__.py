"""Data sets, transforms, samplers."""

from bev.data import transforms
from bev.data.draw import Draw
from bev.data.frames import FrameDataset
from bev.data.infos import InfoDataset, load_frame
from bev.data.nuscenes.dataset import NuScenesDataset

__all__ = ["Draw", "FrameDataset", "InfoDataset", "NuScenesDataset", "load_frame", "transforms"]
