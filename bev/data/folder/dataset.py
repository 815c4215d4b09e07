"""Any rig, and KITTI, as data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bev.data.folder.kitti import CAMERA, read_kitti
from bev.data.folder.read import read_folder
from bev.data.folder.schema import Matrix
from bev.data.frames import FrameDataset, takes_frame_options
from bev.data.infos.columns import as_named, index_of_infos
from bev.registry import DATASETS


@DATASETS.register_module()
@takes_frame_options
class FolderDataset(FrameDataset):
    """Recordings of any rig: pictures, ``calib.json`` and ``poses.json`` as :mod:`bev.data.folder.schema` has them.

    Args:
        root: the folder.
        scenes: names of the recordings to use; None: all.
        cameras: names and order of the cameras; None: as in ``calib.json``.
        ego_from_lidar: 4x4 m, place of the LiDAR frame where ``calib.json`` has none; None: the ego frame.
        options: arguments of :class:`bev.data.frames.FrameDataset`.

    Raises:
        FileError: a file of the folder is missing or wrong.
    """

    def __init__(
        self,
        root: str,
        scenes: Sequence[str] | None = None,
        cameras: Sequence[str] | None = None,
        ego_from_lidar: Matrix | None = None,
        **options: Any,
    ) -> None:
        frames = read_folder(Path(root), None if scenes is None else list(scenes), ego_from_lidar)
        index = index_of_infos(frames, Path(root), as_named)
        super().__init__(index, np.arange(len(index)), root, cameras=cameras or list(frames[0].cameras), **options)


@DATASETS.register_module()
@takes_frame_options
class KittiDataset(FrameDataset):
    """KITTI's object detection data: one camera, no poses; see :func:`bev.data.folder.kitti.read_kitti`.

    Args:
        root: folder with ``calib``, ``image_2``, ``velodyne`` and, for training, ``label_2``.
        options: arguments of :class:`bev.data.frames.FrameDataset`.
    """

    def __init__(self, root: str, cameras: Sequence[str] = (CAMERA,), **options: Any) -> None:
        index = index_of_infos(read_kitti(Path(root)), Path(root), as_named)
        super().__init__(index, np.arange(len(index)), root, cameras=cameras, **options)
