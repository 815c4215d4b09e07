"""nuScenes v1.0 folders as a data set: mini, trainval, test, synthetic, or any other with the same tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bev.data.frame_index import FrameIndex
from bev.data.frames import FrameDataset, takes_frame_options
from bev.data.nuscenes.splits import scenes_of_split
from bev.data.nuscenes.store import load_index
from bev.registry import DATASETS


@DATASETS.register_module()
@takes_frame_options
class NuScenesDataset(FrameDataset):
    """Key frames of a split, straight from the tables (no info files, no devkit).

    The tables are condensed once into an index beside them; see :func:`bev.data.nuscenes.store.load_index`.

    Args:
        root: folder with ``samples/`` and the version folders.
        version: e.g. ``"v1.0-mini"``.
        split: an official split, a name in ``<root>/<version>/splits.json``, or a list of scene names.
        options: arguments of :class:`bev.data.frames.FrameDataset`.

    Raises:
        FileError: the folder, a table or the split cannot be used.
    """

    def __init__(self, root: str, version: str, split: str | Sequence[str], **options: Any) -> None:
        index = load_index(root, version)
        super().__init__(index, frames_of_split(index, Path(root) / version, split), root, **options)
        self.version, self.split = version, split


def frames_of_split(index: FrameIndex, folder: Path, split: str | Sequence[str]) -> np.ndarray:
    """(F,) rows of the index that belong to a split; raises FileError as :func:`scenes_of_split`."""
    wanted = scenes_of_split(folder, split, index.scenes)
    numbers = [i for i, name in enumerate(index.scenes) if name in set(wanted)]
    return np.flatnonzero(np.isin(index.scene, numbers))
