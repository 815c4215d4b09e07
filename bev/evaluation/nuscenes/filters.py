"""Which boxes are scored: nuScenes' range, points and bike-rack rules, in this order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bev.data.frame_index import FrameIndex
from bev.evaluation.nuscenes.columns import BoxColumns
from bev.evaluation.nuscenes.exact import inside_box
from bev.structures.conventions import CLASSES

BIKE_RACK = "static_object.bicycle_rack"
_CYCLES = [CLASSES.index("bicycle"), CLASSES.index("motorcycle")]


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What the rules need to know of the S samples besides their boxes; global frame.

    Attributes:
        ego_m: (S, 3) position of the vehicle when LIDAR_TOP fired.
        rack_sample: (K,) sample of each bike rack, ascending.
        rack_center_m, rack_size_m: (K, 3); length, width, height.
        rack_rotation: (K, 4) quaternion w, x, y, z.
    """

    ego_m: np.ndarray
    rack_sample: np.ndarray
    rack_center_m: np.ndarray
    rack_size_m: np.ndarray
    rack_rotation: np.ndarray

    @staticmethod
    def without_racks(ego_m: np.ndarray) -> Surroundings:
        """Samples in which no bike rack was annotated."""
        empty = np.zeros((0, 3))
        return Surroundings(ego_m, np.zeros(0, np.int32), empty, empty, np.zeros((0, 4)))


def surroundings_of(index: FrameIndex, frames: Sequence[int]) -> Surroundings:
    """Surroundings of frames of an index, numbered in the given order."""
    frame = np.asarray(frames, np.int64)
    ego = np.asarray(index.global_from_ego)[frame, :3, 3]
    names = list(index.category)
    rows = np.flatnonzero(index.box_category == names.index(BIKE_RACK)) if BIKE_RACK in names else np.zeros(0, int)
    position = np.full(len(index), -1, np.int32)
    position[frame] = np.arange(len(frame))
    sample = position[np.searchsorted(index.box_end, rows, side="right")]
    order = np.argsort(sample, kind="stable")
    order = order[sample[order] >= 0]
    rows = rows[order]
    return Surroundings(
        ego, sample[order], index.box_center_m[rows], index.box_size_m[rows], index.box_rotation[rows]
    )


def distance_to_ego(boxes: BoxColumns, ego_m: np.ndarray) -> np.ndarray:
    """(M,) m, in the plane of the global frame; ``ego_m`` is (S, 3)."""
    offset = boxes.center_m[:, :2] - ego_m[boxes.sample, :2]
    return np.sqrt(offset[:, 0] ** 2 + offset[:, 1] ** 2)


def scored(boxes: BoxColumns, surroundings: Surroundings, class_range_m: Mapping[str, float]) -> np.ndarray:
    """(M,) bool: boxes that are scored.

    A box must be nearer to the vehicle than the range of its class and must not have exactly 0 points (predictions
    carry -1); bicycles and motorcycles whose centre stands in a bike rack are left out, in the truth and in the
    predictions (nuScenes detection task, "Preprocessing").
    """
    limit = np.array([class_range_m[name] for name in CLASSES])
    kept = (distance_to_ego(boxes, surroundings.ego_m) < limit[boxes.label]) & (boxes.num_pts != 0)
    if len(surroundings.rack_sample):
        cycles = np.flatnonzero(kept & np.isin(boxes.label, _CYCLES))
        kept[cycles[_in_rack(boxes[cycles], surroundings)]] = False
    return kept


def _in_rack(boxes: BoxColumns, racks: Surroundings) -> np.ndarray:
    """(M,) bool. Only racks near enough to contain the point are tested exactly."""
    first = np.searchsorted(racks.rack_sample, boxes.sample, side="left")
    count = np.searchsorted(racks.rack_sample, boxes.sample, side="right") - first
    box = np.repeat(np.arange(len(boxes)), count)
    rack = np.arange(len(box)) - np.repeat(np.cumsum(count) - count - first, count)
    apart = np.linalg.norm(boxes.center_m[box] - racks.rack_center_m[rack], axis=1)
    reach = np.linalg.norm(racks.rack_size_m[rack], axis=1) / 2
    inside = np.zeros(len(boxes), bool)
    for b, r in zip(*(pair[apart <= 1.001 * reach].tolist() for pair in (box, rack))):
        rack_box = racks.rack_center_m[r], racks.rack_size_m[r], racks.rack_rotation[r]
        inside[b] = inside[b] or inside_box(*rack_box, boxes.center_m[b])
    return inside
