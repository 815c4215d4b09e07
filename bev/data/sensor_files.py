"""The pictures and points of a frame, and what takes their place where they cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from bev.data.frame_index import FrameIndex
from bev.data.sweeps import read_sweeps
from bev.io import FileError
from bev.io.images import read_image
from bev.structures import PointCloud

Report = Callable[[str], None]


class SensorFiles:
    """Reads the sensor files of an index.

    Args:
        index: names, sizes and places of the files.
        root: folder that the file names are relative to.
        channels: which of the index's cameras, in order.
        blank: put a black picture, or no points, in the place of a file that cannot be read; else raise.
    """

    def __init__(self, index: FrameIndex, root: Path, channels: Sequence[int], blank: bool) -> None:
        self.index, self.root, self.channels, self.blank = index, root, list(channels), blank

    def pictures(self, frame: int, report: Report) -> tuple[list[np.ndarray], int]:
        """Pictures of the cameras.

        Args:
            report: called with the reason for each picture that is blanked.

        Returns:
            N arrays (h, w, 3) uint8 RGB, and how many of them were read.

        Raises:
            FileError: a file cannot be used (without ``blank``), or none can and their size is not known.
        """
        read = [self._picture(frame, channel, report) for channel in self.channels]
        sizes = [picture.shape for picture in read if picture is not None]
        whole = [
            self._black(frame, channel, sizes) if picture is None else picture
            for channel, picture in zip(self.channels, read)
        ]
        return whole, len(sizes)

    def _picture(self, frame: int, channel: int, report: Report) -> np.ndarray | None:
        record = f"frame {self.index.token[frame]}, {self.index.channels[channel]}"
        name = self.index.camera_file[frame * len(self.index.channels) + channel]
        height, width = self.index.camera_size_px[frame, channel].tolist()
        try:
            if not name:
                raise FileError(f"{self.root}: {record} has no picture")
            return read_image(self.root / name, record, (height, width) if height and width else None)
        except FileError as error:
            if not self.blank:
                raise
            report(f"blank camera: {error}")
            return None

    def _black(self, frame: int, channel: int, sizes: Sequence[tuple[int, ...]]) -> np.ndarray:
        """A picture of the size that the tables state, else of the size of another camera."""
        height, width = self.index.camera_size_px[frame, channel].tolist()
        if height and width:
            return np.zeros((height, width, 3), np.uint8)
        if not sizes:
            raise FileError(f"frame {self.index.token[frame]}: no picture can be read and their size is not known")
        return np.zeros(sizes[0], np.uint8)

    def points(self, frame: int, report: Report, sweeps: int = 0) -> PointCloud:
        """The LiDAR points of the key frame and of so many earlier sweeps, LiDAR frame of the key frame.

        Raises FileError for a file that cannot be used (without ``blank``).
        """
        try:
            return read_sweeps(self.index, self.root, frame, sweeps)
        except FileError as error:
            if not self.blank:
                raise
            report(f"no points: {error}")
            none = torch.zeros(0)
            times = {"time_s": none} if sweeps else {}
            return PointCloud(torch.zeros(0, 3), {"intensity": none, "ring": none, **times}, "lidar")
