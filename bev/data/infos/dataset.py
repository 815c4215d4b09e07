"""Info files of mmdet3d as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bev.data.frames import FrameDataset, takes_frame_options
from bev.data.infos.columns import index_of_infos
from bev.data.infos.read import open_infos
from bev.io import FileError
from bev.registry import DATASETS
from bev.structures import Sample
from bev.structures.conventions import CAMERAS_DETR3D, BoxConvention


@DATASETS.register_module()
@takes_frame_options
class InfoDataset(FrameDataset):
    """Frames of an mmdet3d info file.

    Args:
        path: the pickle; it is read with a restricted unpickler.
        root: folder of the sensor files; None: the pickle's. File names are looked up as they are and under
            ``samples/<channel>/``.
        convention: of the boxes; None: v2 files are ``mmdet3d_v1``, the boxes of 0.x files are asked, see
            :func:`bev.data.infos.open_infos`.
        options: arguments of :class:`bev.data.frames.FrameDataset`.

    Raises:
        FileError, ValueError: as :func:`bev.data.infos.open_infos`.
    """

    def __init__(
        self, path: str, root: str | None = None, convention: BoxConvention | None = None, **options: Any
    ) -> None:
        folder = Path(path).parent if root is None else Path(root)
        self.infos = open_infos(path, convention, folder)
        index = index_of_infos(self.infos.frames, folder)
        super().__init__(index, np.arange(len(index)), folder, **options)


def load_frame(folder: str | Path, cameras: Sequence[str] = CAMERAS_DETR3D) -> Sample:
    """The one key frame of a folder with an info pickle (v2) and its sensor files.

    Returns:
        Full-size images, rig, LiDAR points and boxes, in the LiDAR frame.

    Raises:
        FileError: the folder has no single pickle, or one of its files cannot be used.
    """
    pickles = sorted(Path(folder).glob("*.pkl"))
    if len(pickles) != 1:
        raise FileError(f"{folder}: expected one info pickle (.pkl), found {len(pickles)}")
    return InfoDataset(str(pickles[0]), cameras=cameras, load_points=True, use_valid_flag=False)[0]
