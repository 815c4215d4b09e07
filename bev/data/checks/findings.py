"""The known silent mistakes by name, and what was found of them."""

from __future__ import annotations

from dataclasses import dataclass

# None of them raises an error anywhere: training runs, the loss falls, and the scores stay bad.
MISTAKES = {
    "size_order": "width and length are exchanged (w, l, h read as l, w, h)",
    "yaw_convention": "the yaw is of another convention than counter-clockwise from +x",
    "box_frame": "boxes are of another frame (ego, LiDAR, global) than they are read in",
    "box_height": "heights of the bottom face (or of the centre) are read as the other",
    "velocity_frame": "velocities are of another frame than their boxes",
    "camera_order": "cameras, their calibrations or their pictures are exchanged",
    "camera_extrinsics": "a camera's pose is inverted or of other axes than OpenCV's (x right, y down, z ahead)",
    "camera_intrinsics": "intrinsics are of another resolution than the pictures",
    "color_order": "red and blue are exchanged (BGR read as RGB)",
    "class_order": "labels are numbered in another order of the classes",
    "timestamps": "times are not in microseconds, or cameras and LiDAR are not of one moment",
    "poses": "poses of the vehicle jump, or are of another unit or direction",
    "files": "files that the data set names are not there",
    "round_trip": "ground truth does not come back from a submission as it went in",
    "unexplained": "the parts of the data contradict each other, and no known mistake explains it",
}


@dataclass(frozen=True)
class Finding:
    """A mistake that the data show.

    Attributes:
        name: key of ``MISTAKES``.
        message: what was seen, with numbers, and what would explain it.
    """

    name: str
    message: str

    def __post_init__(self) -> None:
        if self.name not in MISTAKES:
            raise ValueError(f"{self.name!r} is no known mistake")

    def __str__(self) -> str:
        return f"{self.name}: {MISTAKES[self.name]}. {self.message}"
