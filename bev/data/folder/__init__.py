"""Recordings that are no nuScenes: a documented folder format, and KITTI's object data."""

from bev.data.folder.dataset import FolderDataset, KittiDataset

__all__ = ["FolderDataset", "KittiDataset"]
