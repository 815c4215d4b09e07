"""Frames as people look at them: whole pictures, without augmentation, with LiDAR points where there are any."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bev.data.frames import FrameDataset
from bev.data.sensor_files import SensorFiles
from bev.data.transforms import ImageTransform


def whole_frames(dataset: FrameDataset, frame: Literal["lidar", "ego"] | None = None) -> FrameDataset:
    """The same frames and cameras for drawing.

    Pictures are whole; where cameras are of several sizes all are scaled to the widest and padded. Boxes are all that
    the source has, points are loaded where every frame has them. Black pictures stand for what cannot be read.

    Args:
        dataset: whose index, frames and cameras are used.
        frame: reference frame; None: the data set's.
    """
    index, rows = dataset.index, np.unique(dataset.frames)
    return FrameDataset(
        index,
        dataset.frames,
        dataset.root,
        dataset.cameras,
        frame=frame or dataset.frame,
        image=ImageTransform(common_size_px(dataset), crop_y=0.5),
        load_points=all(index.lidar_file[int(row)] for row in rows),
        use_valid_flag=False,
        on_error="blank_camera",
    )


def common_size_px(dataset: FrameDataset) -> tuple[int, int]:
    """(H, W) that holds the first frame's picture of every camera once they are scaled to the width of the widest.

    Raises:
        FileError: no picture can be read and the source does not state their sizes.
    """
    files = SensorFiles(dataset.index, dataset.root, dataset.channels, blank=True)
    pictures, _ = files.pictures(int(dataset.frames[0]), lambda _: None)
    width = max(picture.shape[1] for picture in pictures)
    return max(round(width * picture.shape[0] / picture.shape[1]) for picture in pictures), width
