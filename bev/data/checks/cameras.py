"""Cameras against their names, their pictures' sizes and file names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bev.data.checks.findings import Finding
from bev.data.frame_index import FrameIndex

# Where cameras of such names look, degrees to the left of ahead, and how far beside it they may.
_BEARINGS_DEG = {
    ("FRONT",): 0.0,
    ("FRONT", "LEFT"): 55.0,
    ("LEFT",): 90.0,
    ("BACK", "LEFT"): 115.0,
    ("BACK",): 180.0,
    ("BACK", "RIGHT"): -115.0,
    ("RIGHT",): -90.0,
    ("FRONT", "RIGHT"): -55.0,
}
_WITHIN_DEG = 45.0
_MAX_SKEW_S, _MAX_SPEED_MPS, _MIN_MOVING = 0.3, 70.0, 5


def check_cameras(
    index: FrameIndex,
    frames: Sequence[int],
    cameras: Sequence[str],
    sizes_px: Mapping[str, tuple[int, int]] | None = None,
) -> list[Finding]:
    """What is wrong with the cameras of some frames: bearings, axes, intrinsics, file names.

    Args:
        frames: rows of the index.
        cameras: names of those that are used.
        sizes_px: (H, W) of pictures by camera, where the source does not state it.
    """
    channels = [index.channels.index(name) for name in cameras]
    first: dict[tuple[str, int], tuple[int, int]] = {}
    for frame in frames:
        for channel in channels:
            row = int(index.camera_calibration[frame, channel])
            if row >= 0:
                first.setdefault((index.channels[channel], row), (int(frame), channel))
    mounts = {key: np.asarray(index.ego_from_camera[key[1]]) for key in first}
    by_name: dict[str, np.ndarray] = {}
    for (name, _), mount in mounts.items():
        by_name.setdefault(name, mount)
    return [
        *_axes(by_name),
        *_intrinsics(index, first, sizes_px or {}),
        *_file_names(index, frames, channels),
    ]


def _bearing_deg(mount: np.ndarray) -> float:
    return math.degrees(math.atan2(mount[1, 2], mount[0, 2]))


def _apart_deg(first: float, second: float) -> float:
    return abs((first - second + 180) % 360 - 180)


def named_bearing_deg(name: str) -> float | None:
    """Where a camera of that name looks, degrees to the left of ahead; None where the name does not say."""
    upper = name.upper().replace("REAR", "BACK")
    words = tuple(word for word in ("FRONT", "BACK", "LEFT", "RIGHT") if word in upper)
    return _BEARINGS_DEG.get(words)


def _axes(mounts: dict[str, np.ndarray]) -> list[Finding]:
    """Cameras stand upright and look where their names say; else another reading of their poses may explain it."""
    wrong = _misfits(mounts)
    if not wrong:
        return []
    to_opencv = np.eye(4)
    to_opencv[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    from_gl = np.diag([1.0, -1, -1, 1])
    options = {
        "as the inverse (camera from ego)": {n: np.linalg.inv(m) for n, m in mounts.items()},
        "of cameras that look along x (x ahead, y left, z up)": {n: m @ to_opencv.T for n, m in mounts.items()},
        "of cameras that look along -z (OpenGL)": {n: m @ from_gl for n, m in mounts.items()},
    }
    for meaning, other in options.items():
        if len(_misfits(other)) <= len(wrong) // 4:
            text = f"{len(wrong)} of {len(mounts)} cameras ({', '.join(wrong)}) do not stand upright and look where"
            return [Finding("camera_extrinsics", f"{text} their names say; their poses fit {meaning}")]
    tilted = [name for name in wrong if not _upright(mounts[name])]
    if tilted:
        text = f"cameras that do not stand upright in the ego frame: {', '.join(tilted)}"
        return [Finding("camera_extrinsics", text)]
    return [_exchanged(mounts, wrong)]


def _upright(mount: np.ndarray) -> bool:
    """The picture's down points down, and the camera looks more or less level."""
    return bool(mount[2, 1] < -0.5 and abs(mount[2, 2]) < 0.8)


def _misfits(mounts: dict[str, np.ndarray]) -> list[str]:
    def fits(name: str, mount: np.ndarray) -> bool:
        said = named_bearing_deg(name)
        return _upright(mount) and (said is None or _apart_deg(said, _bearing_deg(mount)) < _WITHIN_DEG)

    return [name for name, mount in mounts.items() if not fits(name, mount)]


def _exchanged(mounts: dict[str, np.ndarray], wrong: Sequence[str]) -> Finding:
    """Upright cameras that look elsewhere than their names say."""
    seen = {name: _bearing_deg(mounts[name]) for name in wrong}
    said = {name: named_bearing_deg(name) or 0.0 for name in mounts}
    parts = []
    for name, bearing in seen.items():
        nearest = min(said, key=lambda other: _apart_deg(said[other], bearing))
        parts.append(f"{name} looks {bearing:+.0f} degrees to the left of ahead, as {nearest} should")
    return Finding("camera_order", "; ".join(parts))


def _intrinsics(
    index: FrameIndex, first: dict[tuple[str, int], tuple[int, int]], sizes_px: Mapping[str, tuple[int, int]]
) -> list[Finding]:
    """The principal point is near the middle of the picture, and focal lengths suit its width."""
    wrong = {}
    for (name, row), (frame, channel) in first.items():
        height, width = (int(side) for side in index.camera_size_px[frame, channel])
        matrix = np.asarray(index.intrinsics[row])
        if not (height and width):
            height, width = sizes_px.get(name, (0, 0))
        if not (height and width):
            continue
        inside = 0.3 < matrix[0, 2] / width < 0.7 and 0.2 < matrix[1, 2] / height < 0.8
        if not (inside and 0.15 < matrix[0, 0] / width < 10):
            wrong[name] = (
                f"{name}: focal length {matrix[0, 0]:.0f} px and principal point ({matrix[0, 2]:.0f}, "
                f"{matrix[1, 2]:.0f}) px in a picture of {width}x{height} px"
            )
    return [Finding("camera_intrinsics", "; ".join(wrong.values()))] if wrong else []


def _file_names(index: FrameIndex, frames: Sequence[int], channels: Sequence[int]) -> list[Finding]:
    """A picture in the folder of another camera."""
    names, count, example = set(index.channels), 0, ""
    for frame in frames:
        for channel in channels:
            file = index.camera_file[int(frame) * len(index.channels) + channel]
            folders = set(file.replace("\\", "/").split("/")[:-1]) & names
            if folders and index.channels[channel] not in folders:
                count += 1
                example = example or f"{index.channels[channel]} of frame {index.token[int(frame)]} is {file}"
    text = f"{count} pictures are in the folder of another camera: {example}"
    return [Finding("camera_order", text)] if count else []


def check_times_and_poses(index: FrameIndex, frames: Sequence[int]) -> list[Finding]:
    """Times of cameras against LiDAR's, and the vehicle's speed between neighbouring frames."""
    rows = np.asarray(frames, np.int64)
    findings = []
    time = np.asarray(index.timestamp_us)[rows]
    there = np.asarray(index.camera_calibration)[rows] >= 0
    skew = np.where(there, abs(np.asarray(index.camera_timestamp_us)[rows] - time[:, None]), 0).max(1, initial=0) * 1e-6
    if (late := skew > _MAX_SKEW_S).mean() > 0.02:
        worst = int(skew.argmax())
        text = f"in {int(late.sum())} of {len(rows)} frames a camera is more than {_MAX_SKEW_S} s from the frame's time"
        findings.append(Finding("timestamps", f"{text}; {skew[worst]:.3g} s in {index.token[int(rows[worst])]}"))
    after = np.asarray(index.following)[rows]
    rows, after = rows[after >= 0], after[after >= 0]
    if not len(rows):
        return findings
    pose = np.asarray(index.global_from_ego)
    elapsed = (np.asarray(index.timestamp_us)[after] - np.asarray(index.timestamp_us)[rows]) * 1e-6
    way = pose[after, :3, 3] - pose[rows, :3, 3]
    speed = np.linalg.norm(way, axis=1) / np.maximum(elapsed, 1e-6)
    if (elapsed <= 0).any() or np.median(elapsed) < 1e-3:
        text = f"neighbouring frames are {np.median(elapsed):.3g} s apart: the times are no microseconds"
        findings.append(Finding("timestamps", text))
    elif (speed > _MAX_SPEED_MPS).mean() > 0.02:
        text = f"{int((speed > _MAX_SPEED_MPS).sum())} of {len(rows)} ways to the next frame are faster than"
        findings.append(Finding("poses", f"{text} {_MAX_SPEED_MPS:g} m/s (up to {speed.max():.3g} m/s)"))
    findings += _driving(pose[rows], pose[after], elapsed)
    return findings


def _along(pose: np.ndarray, after: np.ndarray, axis: int) -> np.ndarray:
    """(F,) cosine between the way to the next frame and an axis of the vehicle."""
    way = after[:, :3, 3] - pose[:, :3, 3]
    along: np.ndarray = np.einsum("fi,fi->f", pose[:, :3, axis], way) / np.maximum(np.linalg.norm(way, axis=1), 1e-9)
    return along


def _driving(pose: np.ndarray, after: np.ndarray, elapsed_s: np.ndarray) -> list[Finding]:
    """A vehicle moves along its own x axis; (F, 4, 4) poses and those of the next frames."""
    speed = np.linalg.norm(after[:, :3, 3] - pose[:, :3, 3], axis=1) / np.maximum(elapsed_s, 1e-6)
    moving = (speed > 2.0) & (speed < _MAX_SPEED_MPS)
    if moving.sum() < _MIN_MOVING:
        return []
    pose, after = pose[moving], after[moving]
    inverse, inverse_after = np.linalg.inv(pose), np.linalg.inv(after)
    options = {
        "": _along(pose, after, 0),
        "; it moves along its y axis: these are poses of a LiDAR with y ahead": _along(pose, after, 1),
        "; it moves backwards: the frames' order or times are reversed": -_along(pose, after, 0),
        "; their inverse fits: these are poses of global in the vehicle": _along(inverse, inverse_after, 0),
    }
    share = {text: float((cosine > 0.8).mean()) for text, cosine in options.items()}
    if share[""] > 0.7:
        return []
    text = f"only in {share['']:.0%} of {len(pose)} moving frames the vehicle moves along its x axis"
    best = max(share, key=lambda key: share[key])
    return [Finding("poses", text + (best if share[best] > 0.7 else ""))]
