"""AMOTA of the tracker in space against nearest-neighbour matching, on a synthetic data set.

Detections are the truth (``truth``: every box; ``visible``: those that have points, with holes where something was
hidden), and the visible truth worsened (``worsened``): boxes dropped, moved, turned, resized, with wrong velocities,
and false ones added, with scores that overlap. AMOTA and identity switches are those of the official devkit. Baselines,
restated here:

* ``nearest``: greedy nearest centre to where each track was last seen;
* ``velocity``: the same after each detection is moved back by its own velocity (Yin et al., "Center-based 3D Object
  Detection and Tracking", CVPR 2021).

Both have the gates, the life time and the start rule of ours, and report the detections as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bev.data.frame_boxes import boxes_in_global
from bev.data.frame_index import FrameIndex
from bev.data.nuscenes.dataset import frames_of_split
from bev.data.nuscenes.store import load_index
from bev.data.synthetic import generate
from bev.evaluation.tracking import TrackedBox, evaluate_tracking, write_tracks
from bev.io.json_files import write_json
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES
from bev.tracking import Tracker3D, TrackerSettings
from bev.tracking.association import greedy
from bev.tracking.scenes import SceneTracker, track_scene

VERSION, SPLIT = "v1.0-synthetic", "synthetic_val"
CASES = ("truth", "visible", "worsened")
SHOWN = ("AMOTA", "AMOTP", "MOTA", "IDS", "FRAG", "FP", "FN")


@dataclass(frozen=True)
class Faults:
    """How detections are worsened: shares, standard deviations, and false boxes a frame."""

    dropped: float = 0.2
    position_m: float = 0.4
    yaw_rad: float = 0.1
    velocity_mps: float = 0.7
    size: float = 0.05
    reversed: float = 0.05
    false_boxes: float = 5.0


def true_detections(index: FrameIndex, token: str, hidden: bool = False) -> Boxes3D:
    """The truth, score 1; without ``hidden`` only what a sensor can see: boxes with points."""
    boxes = boxes_in_global(index, index.frame_of[token])
    if not hidden:
        boxes = boxes[(boxes.num_lidar_pts + boxes.num_radar_pts) > 0]  # type: ignore[operator]
    boxes = replace(boxes, num_lidar_pts=None, num_radar_pts=None, visibility=None, track_id=None)
    return replace(boxes, velocity_mps=torch.nan_to_num(boxes.velocity_mps))


def worsened(boxes: Boxes3D, ego_m: np.ndarray, faults: Faults, rng: np.random.Generator) -> Boxes3D:
    """Detections of one sample; ``ego_m`` (3,) is where false boxes lie about."""
    boxes = boxes[torch.from_numpy(rng.random(len(boxes)) >= faults.dropped)]
    extra = _false_boxes(boxes, ego_m, int(rng.poisson(faults.false_boxes)), rng)
    m = len(boxes)
    turned = rng.normal(0, faults.yaw_rad, m) + np.pi * (rng.random(m) < faults.reversed)
    moved = replace(
        boxes,
        center_m=boxes.center_m + torch.from_numpy(rng.normal(0, faults.position_m, (m, 3)) * [1, 1, 0.3]),
        yaw_rad=boxes.yaw_rad + torch.from_numpy(turned),
        velocity_mps=boxes.velocity_mps + torch.from_numpy(rng.normal(0, faults.velocity_mps, (m, 2))),
        size_m=boxes.size_m * torch.from_numpy(np.exp(rng.normal(0, faults.size, (m, 3)))),
        score=torch.from_numpy(rng.beta(4, 3, m)),
    )
    return Boxes3D.cat([moved, extra])


def _false_boxes(like: Boxes3D, ego_m: np.ndarray, wanted: int, rng: np.random.Generator) -> Boxes3D:
    """Boxes of classes and sizes that occur, where there is mostly nothing."""
    extra = like[rng.integers(len(like), size=wanted if len(like) else 0).tolist()]
    m = len(extra)
    return replace(
        extra,
        center_m=torch.from_numpy(ego_m + rng.uniform(-45, 45, (m, 3)) * [1, 1, 0]),
        yaw_rad=torch.from_numpy(rng.uniform(-np.pi, np.pi, m)),
        velocity_mps=torch.from_numpy(rng.normal(0, 2, (m, 2))),
        score=torch.from_numpy(rng.beta(2, 4, m)),
    )


class NearestTracker:
    """Greedy nearest matching without a filter; see the module."""

    def __init__(self, settings: TrackerSettings, velocity: bool) -> None:
        self._settings, self._velocity, self._ids = settings, velocity, count()
        self._gates = np.array([s.gate_m if (s := settings.classes.get(c)) else 0.0 for c in CLASSES])
        self.reset()

    def reset(self) -> None:
        """Forget every track."""
        self._rows: list[tuple[int, int, np.ndarray, float]] = []  # number, label, position [m], time [s]

    def update(self, boxes: Boxes3D, time_s: float) -> Boxes3D:
        """The same boxes with ``track_id``."""
        boxes = boxes[torch.from_numpy(self._gates)[boxes.label] > 0]
        boxes = boxes[boxes.score >= self._settings.min_score]
        center, speed, label = (x.numpy() for x in (boxes.center_m[:, :2], boxes.velocity_mps, boxes.label))
        cost = np.full((len(self._rows), len(boxes)), np.inf)
        for i, (_, kind, position, seen_s) in enumerate(self._rows):
            back = speed * (time_s - seen_s) if self._velocity else 0
            distance = np.linalg.norm(center - back - position, axis=1)
            cost[i] = np.where((label == kind) & (distance < self._gates[kind]), distance, np.inf)
        owner = dict(zip(*(x.tolist() for x in greedy(cost)[::-1])))
        number = [self._rows[owner[k]][0] if k in owner else next(self._ids) for k in range(len(boxes))]
        taken = set(owner.values())
        old = [r for i, r in enumerate(self._rows) if i not in taken and time_s - r[3] <= self._settings.max_age_s]
        self._rows = old + [(number[k], int(label[k]), center[k], time_s) for k in range(len(boxes))]
        return replace(boxes, track_id=torch.tensor(number, dtype=torch.int64))


def contestants() -> dict[str, SceneTracker]:
    """Trackers by name, ours first."""
    settings = TrackerSettings()
    return {
        "ours": Tracker3D(settings),
        "ours, scores of the detections": Tracker3D(replace(settings, score="detection")),
        "ours, greedy": Tracker3D(replace(settings, association="greedy", cost="distance")),
        "nearest": NearestTracker(settings, velocity=False),
        "velocity": NearestTracker(settings, velocity=True),
    }


def tracked(
    tracker: SceneTracker, index: FrameIndex, frames: np.ndarray, detections: Callable[[str], Boxes3D]
) -> dict[str, list[TrackedBox]]:
    """Tracks of all scenes of ``frames``."""
    scenes, results = np.asarray(index.scene)[frames], {}
    for scene in dict.fromkeys(scenes.tolist()):
        results.update(track_scene(tracker, index, frames[scenes == scene].tolist(), detections))
    return results


def detections_of(index: FrameIndex, frames: np.ndarray, case: str, seed: int) -> dict[str, Boxes3D]:
    """Detections of every sample by token, of one of ``CASES``."""
    rng, found = np.random.default_rng(seed), {}
    for frame in frames.tolist():
        token, ego_m = index.token[frame], index.global_from_ego[frame, :3, 3]
        boxes = true_detections(index, token, hidden=case == "truth")
        found[token] = worsened(boxes, ego_m, Faults(), rng) if case == "worsened" else boxes
    return found


def score(
    tracker: SceneTracker, root: Path, split: str, detections: dict[str, Boxes3D], config: Path
) -> dict[str, Any]:
    """The devkit's scores of a tracker under its settings file ``config``, and our seconds of CPU for a frame."""
    index = load_index(root, VERSION)
    frames = frames_of_split(index, root / VERSION, split)
    start = time.process_time()
    results = tracked(tracker, index, frames, detections.__getitem__)
    seconds = (time.process_time() - start) / len(frames)
    out = config.with_name("tracks.json")
    write_tracks(out, results)
    scores = evaluate_tracking(out, root, VERSION, split, config).scores
    return {**{name: scores[name] for name in SHOWN}, "seconds_per_frame": seconds}


def measure(
    root: Path, split: str, seeds: Sequence[int], thresholds: int, folder: Path, cases: Sequence[str] = CASES
) -> list[dict[str, Any]]:
    """A row for each case and tracker; of worsened detections the mean over the seeds."""
    index, rows, config = load_index(root, VERSION), [], folder / "config.json"
    write_json(config, {"num_thresholds": thresholds})
    frames = frames_of_split(index, root / VERSION, split)
    for case in cases:
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants()}
        for seed in seeds if case == "worsened" else seeds[:1]:
            detections = detections_of(index, frames, case, seed)
            for name, tracker in contestants().items():
                runs[name].append(score(tracker, root, split, detections, config))
        for name, values in runs.items():
            means = {key: round(float(np.mean([v[key] for v in values])), 5) for key in values[0]}
            lead = [a["AMOTA"] - b["AMOTA"] for a, b in zip(runs["ours"], values)]
            rows.append({"case": case, "tracker": name, **means, "least_lead_of_ours": round(min(lead), 4)})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Ten scenes and five seeds (``--quick``: three and one); ``--root`` reuses a synthetic folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="synthetic data set; made if missing (default: a temporary one)")
    parser.add_argument("--split", default=SPLIT, help=f"of it (default: {SPLIT})")
    parser.add_argument("--thresholds", type=int, default=40, help="recall thresholds; 40 is AMOTA as published")
    parser.add_argument("--seeds", type=int, default=5, help="of the worsened detections")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--quick", action="store_true", help="three scenes, one seed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = args.root or Path(folder) / "synthetic"
        if not (root / VERSION).exists():
            scenes = 3 if args.quick else 10
            generate(root, scenes=scenes, val_scenes=scenes, width=64, height=36, sweeps=0, frames_per_scene=40)
        seeds = range(1 if args.quick else args.seeds)
        rows = measure(root, args.split, seeds, args.thresholds, Path(folder), args.cases)
    print(json.dumps({"name": "tracking", "device": "cpu", "threads": 1, "cases": rows}))


if __name__ == "__main__":
    main()
