"""Data sets, transforms, samplers."""

from bev.data import transforms
from bev.data.draw import Draw
from bev.data.frames import FrameDataset
from bev.data.nuscenes.dataset import NuScenesDataset

__all__ = ["Draw", "FrameDataset", "NuScenesDataset", "transforms"]
