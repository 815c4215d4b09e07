"""NDS and mAP: our columns against the official devkit, on generated boxes.

Both start from the same two JSON files (results and ground truth) and end with every metric: read, check, filter
(range, points, bike racks), match at four thresholds, accumulate, summarize. ``accumulate`` is all after the filters.
The devkit's look-ups in the tables are answered from memory, in its favour: loading its tables is not counted.

Times are processor time of the one thread, which a busy machine disturbs least. Peak memory is the growth of the
process's resident set over its first run, read from the kernel (Linux only). Each size has a process of its own, in
which both run by turns, ours first.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.harness import arguments, report
from bev.evaluation.nuscenes.columns import BoxColumns
from bev.evaluation.nuscenes.curves import FIELDS
from bev.evaluation.nuscenes.evaluate import Evaluation, evaluate_filtered
from bev.evaluation.nuscenes.filters import BIKE_RACK, Surroundings, scored
from bev.evaluation.nuscenes.read import read_columns
from bev.evaluation.nuscenes.settings import MAX_BOXES, DetectionSettings
from bev.structures.conventions import ATTRIBUTES, CLASSES

SHARES = [0.42, 0.10, 0.02, 0.02, 0.03, 0.10, 0.02, 0.02, 0.20, 0.07]
TRUTH = 30


class World:
    """Generated results and ground truth as files, and the devkit's tables as dictionaries."""

    def __init__(self, folder: Path, samples: int, seed: int = 0) -> None:
        self.tokens = [f"{i:032x}" for i in range(samples)]
        self.results, self.truth = folder / f"results_{samples}.json", folder / f"truth_{samples}.json"
        rng = np.random.default_rng(seed)
        self.ego = rng.uniform(200, 2000, (samples, 3))
        self.racks = self.ego + rng.uniform(-20, 20, (samples, 3)) * [1, 1, 0.02]
        self.rows: dict[tuple[str, str], Any] = {}
        with open(self.results, "w") as results, open(self.truth, "w") as truth:
            results.write('{"meta": {"use_camera": true}, "results": {')
            truth.write('{"meta": {}, "results": {')
            for i, token in enumerate(self.tokens):
                self._add_sample(rng, i, token, "" if i == 0 else ", ", results, truth)
            results.write("}}")
            truth.write("}}")

    def _add_sample(self, rng: np.random.Generator, i: int, token: str, comma: str, results: Any, truth: Any) -> None:
        boxes = _boxes(rng, token, self.ego[i], TRUTH)
        predictions = _boxes(rng, token, self.ego[i], int(rng.integers(200, 301)))
        for k, box in enumerate(predictions):
            if rng.random() < 0.3:  # a detection of some box of the truth
                origin = boxes[k % TRUTH]
                shifted = np.array(origin["translation"]) + rng.normal(0, 0.8, 3)
                box.update(translation=shifted.tolist(), detection_name=origin["detection_name"])
            box["detection_score"] = float(rng.beta(1, 5))
        for box in boxes:
            box["num_pts"] = int(rng.integers(0, 60))
        results.write(f'{comma}"{token}": {json.dumps(predictions)}')
        truth.write(f'{comma}"{token}": {json.dumps(boxes)}')
        rack = dict(category_name=BIKE_RACK, translation=self.racks[i].tolist(), size=[2.0, 5.0, 1.5])
        self.rows["sample_annotation", f"rack {i}"] = dict(rack, rotation=[1.0, 0.0, 0.0, 0.0])
        self.rows["sample", token] = dict(data=dict(LIDAR_TOP=token), anns=[f"rack {i}"])
        self.rows["sample_data", token] = dict(ego_pose_token=token)
        self.rows["ego_pose", token] = dict(translation=self.ego[i].tolist())

    def get(self, table: str, token: str) -> Any:
        """As the devkit's ``NuScenes.get``."""
        return self.rows[table, token]

    def surroundings(self) -> Surroundings:
        """The same for the columns."""
        count = len(self.tokens)
        sample = np.arange(count, dtype=np.int32)
        size, rotation = np.tile([5.0, 2.0, 1.5], (count, 1)), np.tile([1.0, 0, 0, 0], (count, 1))
        return Surroundings(self.ego, sample, self.racks, size, rotation)


def _boxes(rng: np.random.Generator, token: str, ego: np.ndarray, count: int) -> list[dict[str, Any]]:
    label = rng.choice(len(CLASSES), count, p=SHARES)
    yaw = rng.uniform(-np.pi, np.pi, count)
    rotation = np.stack([np.cos(yaw / 2), 0 * yaw, 0 * yaw, np.sin(yaw / 2)], 1)
    columns = zip(
        (ego + rng.uniform(-50, 50, (count, 3)) * [1, 1, 0.02]).tolist(),
        rng.uniform(0.5, 5, (count, 3)).tolist(),
        rotation.tolist(),
        rng.normal(0, 3, (count, 2)).tolist(),
        [CLASSES[i] for i in label],
        [ATTRIBUTES[i] for i in rng.integers(len(ATTRIBUTES), size=count)],
    )
    names = ("translation", "size", "rotation", "velocity", "detection_name", "attribute_name")
    return [{"sample_token": token, **dict(zip(names, row)), "detection_score": -1.0} for row in columns]


class Ours:
    """This library, in the same two steps as :class:`Devkit`."""

    def load(self, world: World) -> tuple[BoxColumns, BoxColumns, list[str]]:
        """Read, check and filter."""
        surroundings, limits = world.surroundings(), DetectionSettings().class_range_m
        predicted, tokens = read_columns(world.results)
        predicted = predicted[scored(predicted, surroundings, limits)]
        truth, _ = read_columns(world.truth)
        return truth[scored(truth, surroundings, limits)], predicted, tokens

    def accumulate(self, loaded: tuple[BoxColumns, BoxColumns, list[str]]) -> Evaluation:
        """Match at all thresholds, errors, curves, metrics."""
        return evaluate_filtered(*loaded, DetectionSettings())


class Devkit:
    """The official devkit, step by step as ``DetectionEval`` does it."""

    def __init__(self) -> None:
        from nuscenes.eval.detection.config import config_factory

        self.config = config_factory("detection_cvpr_2019")

    def load(self, world: World) -> list[Any]:
        """Read, check and filter."""
        from nuscenes.eval.common.loaders import add_center_dist, filter_eval_boxes, load_prediction
        from nuscenes.eval.detection.data_classes import DetectionBox

        kept = []
        for path in (world.truth, world.results):
            boxes, _ = load_prediction(str(path), MAX_BOXES, DetectionBox)
            kept.append(filter_eval_boxes(world, add_center_dist(world, boxes), self.config.class_range))
        return kept

    def accumulate(self, loaded: list[Any]) -> tuple[Any, Any]:
        """All classes and thresholds, metrics."""
        from nuscenes.eval.detection.evaluate import DetectionEval

        scorer = SimpleNamespace(cfg=self.config, verbose=False, gt_boxes=loaded[0], pred_boxes=loaded[1])
        return DetectionEval.evaluate(scorer)


def run(contestant: Any, world: World) -> tuple[Any, dict[str, float]]:
    """Result, ``whole`` and ``accumulate`` in ms of processor time, and ``peak_mb``."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, start = _status_mb("VmRSS"), time.process_time()
    loaded = contestant.load(world)
    middle = time.process_time()
    result = contestant.accumulate(loaded)
    end = time.process_time()
    times = {"whole": 1e3 * (end - start), "accumulate": 1e3 * (end - middle)}
    return result, {**times, "peak_mb": _status_mb("VmHWM") - before}


def difference(done: Evaluation, metrics: Any, data: Any) -> float:
    """Largest difference of any point of any curve, and of NDS and mAP."""
    worst = max(abs(done.scores["NDS"] - metrics.nd_score), abs(done.scores["mAP"] - metrics.mean_ap))
    for name, at_thresholds in done.curves.items():
        for threshold, curves in zip(done.settings.thresholds_m, at_thresholds):
            expected = data[(name, threshold)]
            gaps = [np.abs(getattr(curves, f) - getattr(expected, f)).max() for f in FIELDS]
            worst = max(worst, *map(float, gaps))
    return worst


def _status_mb(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def measure(samples: int, runs: int, folder: Path) -> list[dict[str, Any]]:
    """Rows of one size: medians of alternating runs, after a warm-up if there is more than one."""
    world, contestants = World(folder, samples), {"ours": Ours(), "baseline": Devkit()}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    results: dict[str, Any] = {}
    for turn in range(runs + (runs > 1)):
        for name, contestant in contestants.items():
            results[name], figures = run(contestant, world)
            taken[name].append(figures)
    gap, boxes = difference(results["ours"], *results["baseline"]), len(results["ours"].predicted)
    rows = []
    for stage in ("whole", "accumulate"):
        ours, theirs = (statistics.median(t[stage] for t in taken[name][-runs:]) for name in contestants)
        rows.append(
            {
                "case": f"{stage}, {samples} samples, {boxes} boxes scored",
                "ours_ms": round(ours, 1),
                "baseline": "nuscenes-devkit 1.2.0",
                "baseline_ms": round(theirs, 1),
                "ratio": round(theirs / ours, 1),
                "max_abs_diff": gap,
            }
        )
    for name in contestants:
        rows[0][f"{name}_peak_mb"] = round(taken[name][0]["peak_mb"], 1)
    return rows


def main() -> None:
    """600 and 6019 samples (``--quick``: 60)."""
    args = arguments(__doc__ or "")
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for samples, runs in [(60, 5)] if args.quick else [(600, 5), (6019, 1)]:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                cases += pool.apply(measure, (samples, runs, Path(folder)))
            print(json.dumps(cases[-2:]), file=sys.stderr, flush=True)  # the large case takes its time
    report("nds", args.threads, cases)


if __name__ == "__main__":
    main()
