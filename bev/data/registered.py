"""Imports every data set and transform, so that configurations can name them."""

from bev.data import transforms
from bev.data.detection2d import PictureDataset
from bev.data.folder import FolderDataset, KittiDataset
from bev.data.infos import InfoDataset
from bev.data.nuscenes.dataset import NuScenesDataset

__all__ = ["FolderDataset", "InfoDataset", "KittiDataset", "NuScenesDataset", "PictureDataset", "transforms"]
