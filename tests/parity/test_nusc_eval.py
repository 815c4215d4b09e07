"""The evaluator against the numbers the official devkit gave for golden item nusc_eval and for real detections."""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bev.data.infos import index_of_infos, read_infos
from bev.evaluation.nuscenes import DetectionSettings, evaluate_columns
from bev.evaluation.nuscenes.columns import BoxColumns, truth_columns
from bev.evaluation.nuscenes.curves import FIELDS
from bev.evaluation.nuscenes.filters import Surroundings, surroundings_of
from bev.evaluation.nuscenes.read import read_columns
from bev.evaluation.nuscenes.settings import CLASS_RANGE_M, ERRORS, read_settings
from bev.structures.conventions import CLASSES
from tests.evaluation.devkit_referee import assert_identical, official
from tests.paths import golden_cases, real_data_dir

CASES = pytest.mark.parametrize("folder", golden_cases("nusc_eval"), ids=lambda p: p.name)
# Which of fused and plain multiplication BLAS uses depends on the machine.
EXACT = {"rtol": 0, "atol": 1e-12}


def _load(folder: Path, name: str) -> Any:
    with gzip.open(folder / f"{name}.json.gz") as file:
        return json.load(file)


def _boxes(path: Path, tokens: list[str], results: Any) -> BoxColumns:
    """Boxes read as a user's file would be, numbered as ``tokens``."""
    path.write_text(json.dumps({"meta": {}, "results": results}))
    boxes, own = read_columns(path)
    assert set(own) == set(tokens)
    return boxes.of_samples({own.index(token): i for i, token in enumerate(tokens)})


def _case(folder: Path, scratch: Path) -> tuple[BoxColumns, BoxColumns, Surroundings, DetectionSettings, list[str]]:
    results, ego = _load(folder, "pred")["results"], _load(folder, "ego")
    tokens = list(results)
    (scratch / "config.json").write_text(json.dumps(_load(folder, "metrics")["config"]))
    return (
        _boxes(scratch / "gt.json", tokens, _load(folder, "gt")),
        _boxes(scratch / "pred.json", tokens, results),
        Surroundings.without_racks(np.array([ego[token] for token in tokens])),
        read_settings(scratch / "config.json"),
        tokens,
    )


@CASES
def test_golden_numbers(folder: Path, tmp_path: Path) -> None:
    truth, predicted, surroundings, settings, tokens = _case(folder, tmp_path)
    ours = evaluate_columns(truth, predicted, surroundings, tokens, settings)
    golden = _load(folder, "metrics")
    assert (len(ours.truth), len(ours.predicted)) == (golden["num_gt_after_filter"], golden["num_pred_after_filter"])
    for key, expected in golden["metric_data"].items():
        name, _, threshold = key.partition(":")
        curves = ours.curves[name][settings.thresholds_m.index(float(threshold))]
        for field in FIELDS:
            np.testing.assert_allclose(getattr(curves, field), expected[field], **EXACT, err_msg=f"{key} {field}")
    metrics = golden["metrics"]
    scores = ours.scores
    np.testing.assert_allclose([scores["NDS"], scores["mAP"]], [metrics["nd_score"], metrics["mean_ap"]], **EXACT)
    for long, short in ERRORS.items():
        np.testing.assert_allclose(scores[f"m{short}"], metrics["tp_errors"][long], **EXACT)
        for name, row in metrics["label_tp_errors"].items():
            np.testing.assert_allclose(scores["classes"][name][short], row[long], **EXACT, err_msg=f"{name} {short}")
    for name, row in metrics["label_aps"].items():
        for threshold, value in row.items():
            np.testing.assert_allclose(scores["classes"][name][f"AP@{float(threshold)}"], value, **EXACT)


@CASES
def test_golden_sets_are_identical_to_the_devkit_of_this_machine(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("nuscenes")
    *case, settings, tokens = _case(folder, tmp_path)
    ours = evaluate_columns(*case, tokens, settings)
    assert_identical(ours, *official(*case, settings, len(tokens)))


@lru_cache(maxsize=1)
def _real() -> tuple[BoxColumns, BoxColumns, Surroundings, list[str], np.ndarray]:
    """Fast-BEV's detections, the truth, and the poses of the vehicle."""
    folder = real_data_dir("nuscenes_mini_val")
    index = index_of_infos(read_infos(folder / "nuscenes_infos_val.pkl", "mmdet3d_v0"), folder)
    boxes, tokens = read_columns(folder / "results_nusc_fastbev_mini_val.json")
    frames = [index.frame_of[token] for token in tokens]
    return truth_columns(index, frames), boxes, surroundings_of(index, frames), tokens, index.global_from_ego[frames]


def _in_range_of_the_vehicles_plane(boxes: BoxColumns, global_from_ego: np.ndarray) -> BoxColumns:
    """The published scores measured the range in the plane of the (slightly tilted) vehicle, not of the map."""
    limit = np.array([CLASS_RANGE_M[name] for name in CLASSES])
    ego_from_global = np.linalg.inv(global_from_ego)[boxes.sample]
    offset = np.einsum("mij,mj->mi", ego_from_global[:, :3, :3], boxes.center_m) + ego_from_global[:, :3, 3]
    return boxes[np.linalg.norm(offset[:, :2], axis=1) < limit[boxes.label]]


def test_real_detections_give_the_published_precision() -> None:
    expected = json.loads((real_data_dir("nuscenes_mini_val") / "expected_metrics_official.json").read_text())
    truth, predicted, surroundings, tokens, poses = _real()
    truth, predicted = (_in_range_of_the_vehicles_plane(boxes, poses) for boxes in (truth, predicted))
    without_racks = Surroundings.without_racks(surroundings.ego_m)
    everywhere = DetectionSettings(dict.fromkeys(CLASS_RANGE_M, 1e6))
    scores = evaluate_columns(truth, predicted, without_racks, tokens, everywhere).scores
    np.testing.assert_allclose(scores["mAP"], expected["mean_ap"], **EXACT)
    for name, row in expected["label_aps"].items():
        for threshold, value in row.items():
            np.testing.assert_allclose(scores["classes"][name][f"AP@{float(threshold)}"], value, **EXACT)
    for name, row in expected["label_tp_errors"].items():
        for kind in ("trans_err", "scale_err", "orient_err", "vel_err"):
            # The detections in the file are rounded to four decimals; the published errors were taken before that.
            if row[kind] is not None:
                np.testing.assert_allclose(scores["classes"][name][ERRORS[kind]], row[kind], rtol=0, atol=2e-5)


def test_real_detections_are_identical_to_the_devkit_of_this_machine() -> None:
    pytest.importorskip("nuscenes")
    truth, predicted, surroundings, tokens, _ = _real()
    ours = evaluate_columns(truth, predicted, surroundings, tokens)
    assert ours.scores["mAP"] > 0.35
    assert_identical(ours, *official(truth, predicted, surroundings, DetectionSettings(), len(tokens)))
