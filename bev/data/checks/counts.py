"""How much there is of what: frames, boxes by class and distance, files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bev.data.checks.findings import Finding
from bev.data.checks.table import BoxTable
from bev.data.frame_index import FrameIndex
from bev.structures.conventions import CLASSES

DISTANCE_EDGES_M = np.arange(0.0, 101.0, 10.0)


@dataclass
class Counts:
    """Numbers of a data set's frames.

    Attributes:
        frames, scenes: how many; ``seconds``: their length, gaps of more than five seconds left out.
        boxes: by class.
        empty_boxes: by class, those in which neither LiDAR nor radar has a point (dropped by ``use_valid_flag``).
        unknown_velocities: boxes.
        distances: by class, boxes in each bin of ``DISTANCE_EDGES_M``, the last one and all beyond it.
        boxes_a_frame: (F,).
        picture_sizes: by camera, "WxH", "unknown" where the source does not state it.
    """

    frames: int = 0
    scenes: int = 0
    seconds: float = 0.0
    boxes: dict[str, int] = field(default_factory=dict)
    empty_boxes: dict[str, int] = field(default_factory=dict)
    unknown_velocities: int = 0
    distances: dict[str, list[int]] = field(default_factory=dict)
    boxes_a_frame: list[int] = field(default_factory=list)
    picture_sizes: dict[str, list[str]] = field(default_factory=dict)


def count(index: FrameIndex, frames: Sequence[int], cameras: Sequence[str], boxes: BoxTable) -> Counts:
    """Count what some frames hold.

    Args:
        frames: rows of the index, each once.
        cameras: names of those that are used.
        boxes: of these frames.
    """
    rows = np.asarray(frames, np.int64)
    distance = np.linalg.norm(boxes.center_m[:, :2], axis=1)
    place = np.minimum(np.digitize(distance, DISTANCE_EDGES_M) - 1, len(DISTANCE_EDGES_M) - 1)
    empty = boxes.num_points == 0
    result = Counts(
        frames=len(rows),
        scenes=len(np.unique(np.asarray(index.scene)[rows])),
        seconds=_seconds(index, rows),
        unknown_velocities=int(np.isnan(boxes.velocity_mps[:, 0]).sum()),
        boxes_a_frame=np.bincount(boxes.row, minlength=len(rows)).tolist(),
    )
    for label, name in enumerate(CLASSES):
        own = boxes.label == label
        result.boxes[name], result.empty_boxes[name] = int(own.sum()), int((own & empty).sum())
        result.distances[name] = np.bincount(place[own], minlength=len(DISTANCE_EDGES_M)).tolist()
    for name in cameras:
        sizes = np.unique(np.asarray(index.camera_size_px)[rows, index.channels.index(name)], axis=0)
        result.picture_sizes[name] = [f"{w}x{h}" if h and w else "unknown" for h, w in sizes.tolist()]
    return result


def _seconds(index: FrameIndex, rows: np.ndarray) -> float:
    after = np.asarray(index.following)[rows]
    time = np.asarray(index.timestamp_us)
    gaps = (time[after] - time[rows])[after >= 0] * 1e-6
    return float(gaps[(gaps > 0) & (gaps < 5)].sum())


def check_files(index: FrameIndex, root: Path, frames: Sequence[int], cameras: Sequence[str]) -> list[Finding]:
    """Files that are named and missing; an index without LiDAR files names none."""
    missing: dict[str, list[str]] = {}
    for frame in frames:
        files = {"LiDAR": index.lidar_file[int(frame)]}
        for name in cameras:
            channel = index.channels.index(name)
            # A camera without a picture is no dangling name, and on_error says what becomes of it: still, it is told.
            files[name] = index.camera_file[int(frame) * len(index.channels) + channel] or f"({name}: no picture)"
        for sensor, file in files.items():
            if file and not (root / file).is_file():
                missing.setdefault(sensor, []).append(file)
    parts = [f"{sensor}: {len(files)} of {len(frames)}, the first is {files[0]}" for sensor, files in missing.items()]
    return [Finding("files", "; ".join(parts))] if parts else []
