"""Boxes of many samples as numpy columns: what the evaluator works on instead of one object a box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from bev.data.frame_index import FrameIndex
from bev.structures.conventions import CLASSES


@dataclass(frozen=True, eq=False)
class BoxColumns:
    """M boxes, global frame, in the order of the samples and of the boxes in each.

    Attributes:
        sample: (M,) int32, ascending: position in the list of the samples that are scored.
        label: (M,) int8 index into ``conventions.CLASSES``.
        center_m: (M, 3) float64.
        size_m: (M, 3) float64 length, width, height.
        rotation: (M, 4) float64 quaternion w, x, y, z; need not be of unit length.
        velocity_mps: (M, 2) float64, NaN where it is not known.
        score: (M,) float64, -1 for ground truth.
        attribute: (M,) int8 index into ``conventions.ATTRIBUTES``, -1 for none.
        num_pts: (M,) int32 LiDAR and radar points inside; -1 for predictions.
        source: (M,) int64, where the box stood: row of the index's boxes or position in the results file.
    """

    sample: np.ndarray
    label: np.ndarray
    center_m: np.ndarray
    size_m: np.ndarray
    rotation: np.ndarray
    velocity_mps: np.ndarray
    score: np.ndarray
    attribute: np.ndarray
    num_pts: np.ndarray
    source: np.ndarray

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, rows: np.ndarray) -> BoxColumns:
        """Rows by mask or index."""
        return BoxColumns(*(getattr(self, f.name)[rows] for f in fields(self)))

    def of_samples(self, position: Mapping[int, int]) -> BoxColumns:
        """Boxes of some samples, renumbered: ``position`` maps the old number to the new one.

        Boxes are ordered by the new numbers and keep their order within a sample.
        """
        size = 1 + max((*position, int(self.sample.max(initial=-1))), default=-1)
        new = np.full(size, -1, np.int32)
        new[list(position)] = list(position.values())
        number = new[self.sample]
        rows = np.flatnonzero(number >= 0)
        rows = rows[np.argsort(number[rows], kind="stable")]
        columns = [getattr(self, f.name)[rows] for f in fields(self)]
        return BoxColumns(number[rows], *columns[1:])


def truth_columns(index: FrameIndex, frames: Sequence[int]) -> BoxColumns:
    """Ground truth of the ten detection classes.

    Args:
        index: of the data set.
        frames: rows of the index, in the order in which the samples are numbered.
    """
    ends = np.asarray(index.box_end, np.int64)
    frame = np.asarray(frames, np.int64)
    begin = np.where(frame > 0, ends[frame - 1], 0)
    count = ends[frame] - begin
    rows = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - begin, count)
    sample = np.repeat(np.arange(len(frame), dtype=np.int32), count)
    detected = index.box_label[rows] >= 0
    rows, sample = rows[detected], sample[detected]
    return BoxColumns(
        sample,
        index.box_label[rows],
        index.box_center_m[rows],
        index.box_size_m[rows],
        index.box_rotation[rows],
        index.box_velocity_mps[rows, :2],
        np.full(len(rows), -1.0),
        index.box_attribute[rows],
        index.box_num_lidar_pts[rows] + index.box_num_radar_pts[rows],
        rows,
    )


def group_of(boxes: BoxColumns) -> np.ndarray:
    """(M,) int64: one number for each pair of sample and class."""
    return boxes.sample.astype(np.int64) * len(CLASSES) + boxes.label
