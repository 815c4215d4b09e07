"""nuScenes tables of any size, made up: what counts for reading them is their size and their links, not the world."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bev.structures.conventions import ATTRIBUTES, CAMERAS_BEVDET, CLASS_OF_CATEGORY

RADARS = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
# Sensor, modality, records a key frame: the real data set has 20, 12 and 13 a second and two key frames a second.
_SENSORS = [("LIDAR_TOP", "lidar", 10), *((c, "camera", 6) for c in CAMERAS_BEVDET), *((r, "radar", 6) for r in RADARS)]
TRAINVAL = {"scenes": 850, "samples": 34_149, "annotations": 1_166_187}
_SAMPLE_US = 500_000


class Tokens:
    """Reproducible 32-digit tokens."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def make(self, count: int) -> list[str]:
        """``count`` new tokens."""
        text = self._rng.bytes(16 * count).hex()
        return [text[i : i + 32] for i in range(0, len(text), 32)]


def write_tables(folder: Path, scenes: int, samples: int, annotations: int, seed: int = 0) -> dict[str, int]:
    """Write every table of a version; returns the number of records of each."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = Tokens(seed)
    counts: dict[str, int] = {}

    def write(name: str, records: Iterable[str]) -> None:
        counts[name] = _write(folder / f"{name}.json", records)

    static = _static_tables(tokens)
    for name, rows in static.items():
        write(name, map(_text, rows))
    scene_of_sample = np.sort(np.arange(samples) % scenes)
    scene_tokens, sample_tokens = tokens.make(scenes), tokens.make(samples)
    timestamp = 1_530_000_000_000_000 + np.arange(samples) * _SAMPLE_US + scene_of_sample * 60_000_000
    log = tokens.make(1)[0]
    write("log", [_text({"token": log, "logfile": "n", "vehicle": "v", "date_captured": "", "location": "boston"})])
    write("map", [_text({"token": "m", "category": "semantic_prior", "filename": "", "log_tokens": [log]})])
    write("scene", _scenes(scene_tokens, sample_tokens, scene_of_sample, log))
    write("sample", _samples(scene_tokens, sample_tokens, scene_of_sample, timestamp))
    calibrations = {name: tokens.make(scenes) for name, _, _ in _SENSORS}
    write("calibrated_sensor", _calibrations(static["sensor"], calibrations))
    poses = tokens.make(samples * sum(count for _, _, count in _SENSORS))
    write("sample_data", _sample_data(tokens, poses, sample_tokens, scene_of_sample, timestamp, calibrations))
    write("ego_pose", _ego_poses(poses, seed))
    lives = _lives(scene_of_sample, annotations, seed)
    instances, boxes = tokens.make(len(lives)), tokens.make(sum(count for _, count in lives))
    write("instance", _instances(static["category"], lives, instances, boxes))
    write("sample_annotation", _annotations(lives, instances, boxes, sample_tokens, static["attribute"], seed))
    return counts


def _write(path: Path, records: Iterable[str]) -> int:
    """The layout of the published files: one field a line, no indentation."""
    count = 0
    with open(path, "w") as file:
        for count, record in enumerate(records, 1):
            file.write(("[\n" if count == 1 else ",\n") + record)
        file.write("\n]" if count else "[]")
    return count


def _text(row: dict[str, Any]) -> str:
    return json.dumps(row, indent=0)


def _static_tables(tokens: Tokens) -> dict[str, list[dict[str, Any]]]:
    levels = ("v0-40", "v40-60", "v60-80", "v80-100")
    categories = (*CLASS_OF_CATEGORY, "animal", "static_object.bicycle_rack", "movable_object.debris")
    return {
        "visibility": [{"token": str(i), "level": v, "description": ""} for i, v in enumerate(levels, 1)],
        "attribute": [{"token": t, "name": n, "description": ""} for t, n in zip(tokens.make(8), ATTRIBUTES)],
        "category": [{"token": t, "name": n, "description": ""} for t, n in zip(tokens.make(17), categories)],
        "sensor": [
            {"token": t, "channel": n, "modality": m} for t, (n, m, _) in zip(tokens.make(len(_SENSORS)), _SENSORS)
        ],
    }


def _scenes(scenes: list[str], samples: list[str], scene_of_sample: np.ndarray, log: str) -> Iterator[str]:
    for i, token in enumerate(scenes):
        first, end = np.searchsorted(scene_of_sample, [i, i + 1]).tolist()
        ends = {"first_sample_token": samples[first], "last_sample_token": samples[end - 1]}
        count = {"log_token": log, "nbr_samples": end - first, "name": f"scene-{i + 1:04d}", "description": "made up"}
        yield _text({"token": token, **count, **ends})


def _samples(scenes: list[str], samples: list[str], scene: np.ndarray, timestamp: np.ndarray) -> Iterator[str]:
    for i, token in enumerate(samples):
        links = {
            "prev": samples[i - 1] if i and scene[i - 1] == scene[i] else "",
            "next": samples[i + 1] if i + 1 < len(samples) and scene[i + 1] == scene[i] else "",
        }
        yield _text({"token": token, "timestamp": int(timestamp[i]), **links, "scene_token": scenes[scene[i]]})


def _calibrations(sensors: list[dict[str, Any]], calibrations: dict[str, list[str]]) -> Iterator[str]:
    focal = 1266.417203046554
    matrix = [[focal, 0.0, 816.2670197447984], [0.0, focal, 491.50706579294757], [0.0, 0.0, 1.0]]
    mount = {"translation": [1.70079118954, 0.0159456324149, 1.51095763913], "rotation": [0.5, -0.5, 0.5, -0.5]}
    for sensor in sensors:
        intrinsic = matrix if sensor["modality"] == "camera" else []
        for token in calibrations[sensor["channel"]]:
            yield _text({"token": token, "sensor_token": sensor["token"], **mount, "camera_intrinsic": intrinsic})


def _sample_data(
    tokens: Tokens,
    poses: list[str],
    samples: list[str],
    scene: np.ndarray,
    timestamp: np.ndarray,
    calibrations: dict[str, list[str]],
) -> Iterator[str]:
    begin = 0
    for name, modality, count in _SENSORS:
        own = tokens.make(len(samples) * count)
        kind = {"lidar": "pcd", "camera": "jpg", "radar": "pcd"}[modality]
        size = (900, 1600) if modality == "camera" else (0, 0)
        for i in range(len(own)):
            sample, step = divmod(i, count)
            s = int(scene[sample])
            when = int(timestamp[sample]) + step * _SAMPLE_US // count
            before = own[i - 1] if i and scene[(i - 1) // count] == s else ""
            after = own[i + 1] if i + 1 < len(own) and scene[(i + 1) // count] == s else ""
            folder = "samples" if step == 0 else "sweeps"
            yield (
                f'{{\n"token": "{own[i]}",\n"sample_token": "{samples[sample]}",\n'
                f'"ego_pose_token": "{poses[begin + i]}",\n"calibrated_sensor_token": "{calibrations[name][s]}",\n'
                f'"timestamp": {when},\n"fileformat": "{kind}",\n"is_key_frame": {"true" if step == 0 else "false"},\n'
                f'"height": {size[0]},\n"width": {size[1]},\n'
                f'"filename": "{folder}/{name}/n015-2018-07-24-11-22-45+0800__{name}__{when}.{kind}",\n'
                f'"prev": "{before}",\n"next": "{after}"\n}}'
            )
        begin += len(own)


def _ego_poses(poses: list[str], seed: int) -> Iterator[str]:
    numbers = np.random.default_rng(seed + 1).uniform(300, 2000, (len(poses), 2)).tolist()
    for i, (token, (x, y)) in enumerate(zip(poses, numbers)):
        yield (
            f'{{\n"token": "{token}",\n"timestamp": {1_530_000_000_000_000 + i},\n"rotation": [\n0.5720320396729045,\n'
            f'-0.0016977771610471074,\n0.011798001930183783,\n-0.8201446642457809\n],\n'
            f'"translation": [\n{x!r},\n{y!r},\n0.0\n]\n}}'
        )


def _lives(scene_of_sample: np.ndarray, annotations: int, seed: int) -> list[tuple[int, int]]:
    """(first sample, number of samples) of each object; they sum up to ``annotations``."""
    rng = np.random.default_rng(seed + 2)
    lives: list[tuple[int, int]] = []
    while annotations > 0:
        first = int(rng.integers(len(scene_of_sample)))
        end = int(np.searchsorted(scene_of_sample, scene_of_sample[first], "right"))
        count = min(int(rng.integers(1, 36)), end - first, annotations)
        lives.append((first, count))
        annotations -= count
    return lives


def _instances(
    categories: list[dict[str, Any]], lives: list[tuple[int, int]], instances: list[str], boxes: list[str]
) -> Iterator[str]:
    begin = 0
    for i, (_, count) in enumerate(lives):
        ends = {"first_annotation_token": boxes[begin], "last_annotation_token": boxes[begin + count - 1]}
        category = categories[i % len(categories)]["token"]
        yield _text({"token": instances[i], "category_token": category, "nbr_annotations": count, **ends})
        begin += count


def _annotations(
    lives: list[tuple[int, int]],
    instances: list[str],
    boxes: list[str],
    samples: list[str],
    attributes: list[dict[str, Any]],
    seed: int,
) -> Iterator[str]:
    rng, begin = np.random.default_rng(seed + 3), 0
    for i, (first, count) in enumerate(lives):
        x, y, vx, vy = rng.uniform(300, 1500, 4).tolist()
        width, length, height = rng.uniform(0.3, 8, 3).round(3).tolist()
        attribute = f'\n"{attributes[i % 8]["token"]}"\n' if i % 7 else ""
        for k in range(count):
            before, after = boxes[begin + k - 1] if k else "", boxes[begin + k + 1] if k + 1 < count else ""
            yield (
                f'{{\n"token": "{boxes[begin + k]}",\n"sample_token": "{samples[first + k]}",\n'
                f'"instance_token": "{instances[i]}",\n"visibility_token": "{1 + (i + k) % 4}",\n'
                f'"attribute_tokens": [{attribute}],\n'
                f'"translation": [\n{x + 1e-3 * vx * k:.3f},\n{y + 1e-3 * vy * k:.3f},\n1.157\n],\n'
                f'"size": [\n{width},\n{length},\n{height}\n],\n'
                f'"rotation": [\n0.9831098797903927,\n0.0,\n0.0,\n-0.18301629506281616\n],\n'
                f'"prev": "{before}",\n"next": "{after}",\n"num_lidar_pts": {k % 30},\n"num_radar_pts": {k % 3}\n}}'
            )
        begin += count
