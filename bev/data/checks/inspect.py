"""All checks of one data set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bev.data.checks.cameras import check_cameras, check_times_and_poses
from bev.data.checks.counts import Counts, check_files, count
from bev.data.checks.findings import Finding
from bev.data.checks.pictures import Frame, check_colors, check_order
from bev.data.checks.table import box_table
from bev.data.checks.verdict import Votes, judge
from bev.data.checks.witnesses import Cloud
from bev.data.frames import FrameDataset
from bev.data.infos.dataset import InfoDataset
from bev.data.nuscenes.dataset import NuScenesDataset
from bev.data.sensor_files import SensorFiles
from bev.io import FileError

_LOG = logging.getLogger("bev.data")

# So many frames, spread evenly, are asked: mistakes of this kind are in every frame or in none.
_FRAMES, _CLOUDS, _PICTURES, _FILES = 200, 8, 12, 1000


@dataclass(frozen=True)
class Inspection:
    """What was found out about a data set.

    Attributes:
        counts: of all frames.
        votes: of each witness on the boxes as they are read: (boxes that fit, boxes asked).
        clouds, pictures: how many frames' points and pictures were looked at.
        findings: the mistakes.
    """

    counts: Counts
    votes: Votes
    clouds: int
    pictures: int
    findings: tuple[Finding, ...]


def inspect_frames(dataset: FrameDataset) -> Inspection:
    """Look for the known silent mistakes; reads tables, and the files of some frames where they are there."""
    index, rows = dataset.index, np.unique(dataset.frames)
    chosen = with_following(dataset, spread(rows, _FRAMES // 2))
    clouds = read_clouds(dataset, chosen)
    # nuScenes' ego frame lies on the ground; other vehicles' need not.
    ground_m = 0.0 if isinstance(dataset, (NuScenesDataset, InfoDataset)) else None
    verdict = judge(box_table(index, chosen), clouds, ground_m)
    frames = read_pictures(dataset, spread(rows, _PICTURES))
    pictures = dict(zip(dataset.cameras, frames[0][0])) if frames else {}
    sizes = {name: (picture.shape[0], picture.shape[1]) for name, picture in pictures.items()}
    findings = [
        *check_files(index, dataset.root, spread(rows, _FILES).tolist(), dataset.cameras),
        *check_cameras(index, spread(rows, _FILES).tolist(), dataset.cameras, sizes),
        *check_times_and_poses(index, rows.tolist()),
        *verdict.findings,
        *check_colors(frames),
        *check_order(frames, dataset.cameras),
    ]
    counts = count(index, rows.tolist(), dataset.cameras, box_table(index, rows.tolist()))
    return Inspection(counts, verdict.votes, len(clouds), len(frames), tuple(findings))


def spread(rows: np.ndarray, number: int) -> np.ndarray:
    """At most so many of the rows, spread evenly."""
    picked: np.ndarray = rows[np.unique(np.linspace(0, len(rows) - 1, min(number, len(rows))).round().astype(int))]
    return picked


def with_following(dataset: FrameDataset, rows: np.ndarray) -> list[int]:
    """Frames and those after them, as far as the data set has them."""
    after = np.asarray(dataset.index.following)[rows]
    return np.union1d(rows, np.intersect1d(after[after >= 0], dataset.frames)).tolist()


def read_clouds(dataset: FrameDataset, chosen: Sequence[int]) -> list[Cloud]:
    """Points of some of the chosen frames, as far as they can be read."""
    files = SensorFiles(dataset.index, dataset.root, [], blank=False)
    names = [dataset.index.lidar_file[row] for row in chosen]
    there = [i for i, name in enumerate(names) if name and (dataset.root / name).is_file()]
    clouds = []
    for position in spread(np.array(there, np.int64), _CLOUDS).tolist() if there else []:
        try:
            clouds.append(Cloud(position, files.points(chosen[position], _ignore).xyz_m.double().numpy()))
        except FileError as error:
            _LOG.warning("points are left out of the check: %s", error)
    return clouds


def read_pictures(dataset: FrameDataset, rows: np.ndarray) -> list[Frame]:
    """Pictures and cameras of frames all of whose pictures can be read."""
    index, channels = dataset.index, dataset.channels
    files = SensorFiles(index, dataset.root, channels, blank=False)
    frames: list[Frame] = []
    for row in rows.tolist():
        try:
            pictures, _ = files.pictures(row, _ignore)
        except FileError as error:
            _LOG.info("pictures are left out of the check: %s", error)
            continue
        calibration = index.camera_calibration[row, channels]
        if (calibration >= 0).all():
            frames.append((pictures, index.intrinsics[calibration], index.ego_from_camera[calibration]))
    return frames


def _ignore(message: str) -> None:
    """Nothing is blanked here."""
