"""Info files of mmdet3d: 1.x (v2), 0.x, and what BEVDet and BEVFormer made of 0.x."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bev.data.infos.convention import MEANING, Evidence, weigh
from bev.data.infos.frame import InfoFrame, RawBoxes, locate, read_old, read_v2
from bev.data.nuscenes.rows import MAX_M
from bev.io import FileError
from bev.io.pickle import read_pickle
from bev.io.points import read_nuscenes_points
from bev.structures.conventions import CLASSES, BoxConvention, boxes_from_array

_LOG = logging.getLogger(__name__)
_CLOUDS = 3  # frames whose points are asked


@dataclass(frozen=True)
class Infos:
    """An info file.

    Attributes:
        frames: in the file's order, boxes in the LiDAR frame.
        flavour: ``mmdet3d 1.x``, ``mmdet3d 0.x``, ``bevdet`` or ``bevformer``.
        convention: how its boxes were read.
        evidence: what the boxes themselves say about that.
    """

    frames: list[InfoFrame]
    flavour: str
    convention: BoxConvention
    evidence: Evidence

    def __str__(self) -> str:
        return f"{self.flavour}, boxes {self.convention} ({MEANING[self.convention]}); {self.evidence}"


def read_infos(
    path: str | Path, convention: BoxConvention | None = None, root: str | Path | None = None
) -> list[InfoFrame]:
    """Frames of an info file; see :func:`open_infos`."""
    return open_infos(path, convention, root).frames


def open_infos(path: str | Path, convention: BoxConvention | None = None, root: str | Path | None = None) -> Infos:
    """Read an info file of any flavour.

    Args:
        path: the pickle; it is read with a restricted unpickler.
        convention: of the boxes. None: files of 1.x say theirs, files of 0.x are asked (see
            :mod:`bev.data.infos.convention`); what was found is logged as a warning, since a wrong answer is silent.
        root: folder of the sensor files, whose points are asked too; None: the pickle's.

    Raises:
        FileError: not an info file (names the frame and the key), or its boxes contradict the convention that its
            format implies.
        ValueError: a 0.x file whose boxes do not tell their convention, without ``convention``.
    """
    flavour, rows, read = _open(path)
    frames, raw = _read_each(path, rows, read)
    folder = Path(path).parent if root is None else Path(root)
    evidence = weigh(*_joined(raw), _clouds(frames, raw, folder))
    infos = Infos(frames, flavour, _decide(path, flavour, convention, evidence), evidence)
    for frame, boxes in zip(frames, raw):
        frame.boxes = replace(
            boxes_from_array(boxes.array, boxes.label, infos.convention, z="center"),
            num_lidar_pts=boxes.num_lidar_pts,
            num_radar_pts=boxes.num_radar_pts,
        )
    _check_sizes(path, frames)
    return infos


def _open(path: str | Path) -> tuple[str, list[Any], Callable[[Mapping[str, Any]], tuple[InfoFrame, RawBoxes]]]:
    """Flavour, records and their reader."""
    content = read_pickle(path)
    if isinstance(content, dict) and "data_list" in content and "metainfo" in content:
        categories = content["metainfo"].get("categories") or {name: i for i, name in enumerate(CLASSES)}
        names = {number: name for name, number in categories.items()}
        return "mmdet3d 1.x", content["data_list"], lambda row: read_v2(row, names)
    if isinstance(content, dict) and isinstance(rows := content.get("infos"), list):
        keys = set(rows[0]) if rows and isinstance(rows[0], Mapping) else set()
        flavour = "bevdet" if "ann_infos" in keys else "bevformer" if {"can_bus", "frame_idx"} & keys else "mmdet3d 0.x"
        return flavour, rows, read_old
    raise FileError(f"{path}: not an info file: expected the keys metainfo and data_list (1.x), or infos (0.x)")


def _decide(
    path: str | Path, flavour: str, convention: BoxConvention | None, evidence: Evidence
) -> BoxConvention:
    verdict = evidence.verdict()
    if convention is not None:
        if verdict not in (None, convention):
            _LOG.warning("%s is read as %s, but its boxes look like %s: %s", path, convention, verdict, evidence)
        return convention
    heard = {evidence.says(witness) for witness in evidence.votes} - {None}
    if len(heard) > 1:
        raise FileError(f"{path}: its boxes are of no known convention ({evidence}); give convention= to read it")
    if flavour == "mmdet3d 1.x":
        if verdict == "mmdet3d_v0":
            raise FileError(
                f"{path}: a 1.x file whose boxes are {verdict} ({MEANING[verdict]}), probably made from an old one: "
                f"{evidence}; give convention='mmdet3d_v0' to read it so"
            )
        return "mmdet3d_v1"
    if verdict is None:
        raise ValueError(
            f"{path}: info files of mmdet3d 0.x do not say which box convention they use, and these boxes do not tell "
            f"({evidence}); give convention='mmdet3d_v0' (written by mmdet3d < 1.0) or 'mmdet3d_v1'"
        )
    _LOG.warning("%s (%s): its boxes are %s (%s): %s", path, flavour, verdict, MEANING[verdict], evidence)
    return verdict


def _read_each(
    path: str | Path, rows: list[Any], read: Callable[[Mapping[str, Any]], tuple[InfoFrame, RawBoxes]]
) -> tuple[list[InfoFrame], list[RawBoxes]]:
    frames, raw = [], []
    for i, row in enumerate(rows):
        where = f"{path}: frame {i} ({row.get('token', '?') if isinstance(row, dict) else type(row).__name__})"
        try:
            frame, boxes = read(row)
        except KeyError as error:
            raise FileError(f"{where}: key {error} is missing") from error
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError) as error:
            raise FileError(f"{where}: {error}") from error
        _check_frame(frame, where)
        if not bool(torch.isfinite(boxes.array[:, :7]).all()):
            raise FileError(f"{where}: a box holds a number that is not finite")
        if bool((boxes.array.abs() > MAX_M).any()):  # a velocity that is not known (NaN) is not
            raise FileError(f"{where}: a box holds a number beyond {MAX_M:g}")
        frames.append(frame)
        raw.append(boxes)
    return frames, raw


def _check_frame(frame: InfoFrame, where: str) -> None:
    matrices = {"lidar2ego": frame.ego_from_lidar, "ego2global": frame.global_from_ego}
    for name, camera in frame.cameras.items():
        matrices |= {f"{name} cam2ego": camera.ego_from_camera, f"{name} ego2global": camera.global_from_ego}
        if camera.intrinsics.shape != (3, 3) or not np.isfinite(camera.intrinsics).all():
            raise FileError(f"{where}: the intrinsics of {name} are not 3x3 finite numbers")
    for i, sweep in enumerate(frame.sweeps):
        matrices |= {f"sweep {i} lidar2ego": sweep.ego_from_lidar, f"sweep {i} ego2global": sweep.global_from_ego}
    for name, matrix in matrices.items():
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise FileError(f"{where}: {name} is not a 4x4 matrix of finite numbers")
        if abs(matrix).max() > MAX_M:
            raise FileError(f"{where}: {name} has a number beyond {MAX_M:g}")
        rotation = matrix[:3, :3]
        if abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2 or np.linalg.det(rotation) < 0:
            raise FileError(f"{where}: {name} is not a rigid transform")


def _check_sizes(path: str | Path, frames: list[InfoFrame]) -> None:
    for i, frame in enumerate(frames):
        if not bool((frame.boxes.size_m > 0).all()):
            raise FileError(f"{path}: frame {i} ({frame.token}): a box has a size that is not positive")


def _joined(raw: list[RawBoxes]) -> tuple[Tensor, Tensor]:
    none = torch.zeros(0, 9, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    return torch.cat([none[0], *(b.array for b in raw)]), torch.cat([none[1], *(b.label for b in raw)])


def _clouds(frames: list[InfoFrame], raw: list[RawBoxes], root: Path) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Points, boxes and stated counts of the first frames whose LiDAR file is there."""
    clouds: list[tuple[Tensor, Tensor, Tensor]] = []
    for frame, boxes in zip(frames, raw):
        file = root / locate(root, frame.lidar_file, "LIDAR_TOP")
        if len(clouds) < _CLOUDS and len(boxes.array) and frame.lidar_file and file.is_file():
            clouds.append((read_nuscenes_points(file).xyz_m, boxes.array, boxes.num_lidar_pts))
    return clouds
