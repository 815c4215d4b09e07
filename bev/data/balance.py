"""Class-balanced grouping and sampling (CBGS, Zhu et al., arXiv 1908.09492)."""

from __future__ import annotations

import numpy as np

from bev.data.frame_index import FrameIndex
from bev.structures.conventions import CLASSES


def balanced_frames(index: FrameIndex, frames: np.ndarray, use_valid_flag: bool, seed: int = 0) -> np.ndarray:
    """Frames repeated so that every class is drawn equally often, as mmdet3d's CBGSDataset does.

    With n_c frames that hold class c and N = sum of n_c, each class draws N / 10 of its frames with replacement; frames
    without boxes never come. Drawn once: every epoch has the same frames in another order.

    Args:
        frames: (F,) rows of the index.
        use_valid_flag: count only boxes with a LiDAR or radar point.
        seed: of the draw.

    Returns:
        About N rows of the index, grouped by class; classes that no frame holds are left out.

    Raises:
        ValueError: no frame holds any class.
    """
    label = np.where(index.box_num_lidar_pts + index.box_num_radar_pts > 0, index.box_label, -1)
    label = label if use_valid_flag else np.asarray(index.box_label)
    owner = np.repeat(np.arange(len(index)), np.diff(index.box_end, prepend=0))
    holds = np.zeros((len(index), len(CLASSES)), bool)
    holds[owner[label >= 0], label[label >= 0]] = True
    of_class = [frames[holds[frames, c]] for c in range(len(CLASSES))]
    share = sum(map(len, of_class)) / len(CLASSES)
    if not share:
        raise ValueError("class_balance: no frame holds a box of a detection class")
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.choice(rows, int(share)) for rows in of_class if len(rows)])
