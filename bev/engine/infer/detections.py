"""``detections.json``: what was found in a rig's recordings.

::

    {"format": "bev.detections.1", "frame": "ego", "score_threshold": 0.25, "cameras": ["front", ...],
     "scenes": {"monday": [{"token": "0001", "timestamp_us": 1, "global_from_ego": 4x4 m,
                            "boxes": [{"label": "car", "score": 0.8, "center_m": [x, y, z], "size_m": [l, w, h],
                                       "yaw_rad": 0.1, "velocity_mps": [vx, vy]}, ...]}, ...], ...}}

Boxes are in the vehicle's frame of their own time (x forward, y left, z up, the origin of ``calib.json``), best first:
gravity centre, length, width and height, heading counter-clockwise from +x, velocity over ground along the vehicle's x
and y, null where the detector does not know it. Without ``score`` they are the boxes of ``poses.json``, to be corrected
by hand and learned from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bev.data.frames import FrameDataset
from bev.io.json_files import write_json
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES

FORMAT = "bev.detections.1"


def write_detections(
    path: Path, frames: FrameDataset, found: Mapping[str, Boxes3D], score_threshold: float
) -> Path:
    """Write the boxes of every frame, in the order of the data set; atomically.

    Args:
        path: the file; its folder is made.
        frames: the frames, for their recordings, times and poses.
        found: by token, ego frame.
        score_threshold: that they were filtered with, for the reader.

    Returns:
        The path.
    """
    index, scenes = frames.index, dict[str, list[dict[str, Any]]]()
    for row in frames.frames.tolist():
        token = index.token[row]
        scenes.setdefault(index.scenes[int(index.scene[row])], []).append(
            {
                "token": token,
                "timestamp_us": int(index.timestamp_us[row]),
                "global_from_ego": np.asarray(index.global_from_ego[row]).tolist(),
                "boxes": _records(found[token]),
            }
        )
    head = {"format": FORMAT, "frame": "ego", "score_threshold": score_threshold, "cameras": list(frames.cameras)}
    write_json(path, {**head, "scenes": scenes}, indent=1)
    return path


def _records(boxes: Boxes3D) -> list[dict[str, Any]]:
    """Boxes as JSON has them, best first.

    Raises:
        ValueError: boxes of another frame.
    """
    if boxes.frame != "ego":
        raise ValueError(f"detections are written in the ego frame, got {boxes.frame!r}")
    boxes = boxes[boxes.score.argsort(descending=True, stable=True)]
    velocity = [None if any(map(math.isnan, pair)) else pair for pair in boxes.velocity_mps.tolist()]
    columns = (
        [CLASSES[label] for label in boxes.label.tolist()],
        boxes.score.tolist(),
        boxes.center_m.tolist(),
        boxes.size_m.tolist(),
        boxes.yaw_rad.tolist(),
        velocity,
    )
    names = ("label", "score", "center_m", "size_m", "yaw_rad", "velocity_mps")
    return [dict(zip(names, values)) for values in zip(*columns)]
