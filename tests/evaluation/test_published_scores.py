"""The box conventions carry real ground truth and real detections to the scores that were published for them."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import msgspec
import pytest

from bev.data.frame_boxes import boxes_in_global
from bev.data.infos import index_of_infos, read_infos
from bev.evaluation.nuscenes import DetectionSettings, evaluate_columns
from bev.evaluation.nuscenes.filters import Surroundings, surroundings_of
from bev.evaluation.nuscenes.read import read_columns
from bev.evaluation.nuscenes.scores import Scores
from bev.evaluation.nuscenes.settings import CLASS_RANGE_M
from bev.evaluation.nuscenes.submission import boxes_of, detections, in_class_range, read_submission
from bev.structures.conventions import BoxConvention
from tests.paths import real_data_dir

ERRORS = {"trans_err": "ATE", "scale_err": "ASE", "orient_err": "AOE", "vel_err": "AVE"}


@lru_cache(maxsize=2)
def scores_with(convention: BoxConvention, scratch: Path) -> Scores:
    """Fast-BEV's detections against the boxes of the info file, read with a convention and written as a submission."""
    folder = real_data_dir("nuscenes_mini_val")
    frames = read_infos(folder / "nuscenes_infos_val.pkl", convention)
    index = index_of_infos(frames, folder)
    submission = read_submission(folder / "results_nusc_fastbev_mini_val.json")
    truth, predicted = {}, {}
    for i, frame in enumerate(frames):
        boxes = boxes_in_global(index, i)
        boxes = boxes[boxes.num_lidar_pts + boxes.num_radar_pts > 0]
        boxes = boxes[in_class_range(boxes, index.global_from_ego[i], CLASS_RANGE_M)]
        # A submission has no unknown velocity; the truth has, and it is not scored.
        known = zip(detections(frame.token, boxes), boxes.velocity_mps.tolist())
        truth[frame.token] = [msgspec.structs.replace(record, velocity=velocity) for record, velocity in known]
        rows = submission.results[frame.token]
        inside = in_class_range(boxes_of(rows), index.global_from_ego[i], CLASS_RANGE_M).tolist()
        predicted[frame.token] = [row for row, keep in zip(rows, inside) if keep]
    surroundings = Surroundings.without_racks(surroundings_of(index, range(len(frames))).ego_m)
    everywhere = DetectionSettings(dict.fromkeys(CLASS_RANGE_M, 1e6))
    columns = []
    for name, results in (("truth", truth), ("predicted", predicted)):
        document = msgspec.to_builtins({"meta": {}, "results": results})
        (scratch / f"{name}.json").write_text(json.dumps(document))  # with NaN, as Python's users write it
        columns.append(read_columns(scratch / f"{name}.json")[0])
    return evaluate_columns(*columns, surroundings, list(truth), everywhere).scores


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


def test_old_convention_boxes_give_the_published_scores(scratch: Path) -> None:
    expected = json.loads((real_data_dir("nuscenes_mini_val") / "expected_metrics_official.json").read_text())
    scores = scores_with("mmdet3d_v0", scratch)
    assert scores["mAP"] == pytest.approx(expected["mean_ap"], abs=1e-12)
    for name, row in expected["label_aps"].items():
        for threshold, value in row.items():
            assert scores["classes"][name][f"AP@{threshold}"] == pytest.approx(value, abs=1e-12), name
    # The detections in the file are rounded to four decimals, the scores were taken before that.
    means = dict.fromkeys(ERRORS, 0.0)
    for name, row in expected["label_tp_errors"].items():
        for kind, value in row.items():
            if value is not None and kind in ERRORS:
                assert scores["classes"][name][ERRORS[kind]] == pytest.approx(value, abs=2e-5), (name, kind)
    for kind in means:
        classes = [name for name, row in expected["label_tp_errors"].items() if row[kind] is not None]
        means[kind] = sum(scores["classes"][name][ERRORS[kind]] for name in classes) / len(classes)
    assert means == pytest.approx(expected["tp_errors"], abs=5e-6)


def test_the_wrong_convention_shows_its_fingerprint(scratch: Path) -> None:
    right, wrong = scores_with("mmdet3d_v0", scratch), scores_with("mmdet3d_v1", scratch)
    assert wrong["mAP"] == pytest.approx(right["mAP"], abs=1e-12)  # centres do not depend on it
    right, wrong = right["classes"]["car"], wrong["classes"]["car"]
    assert wrong["ASE"] > 0.5 and right["ASE"] < 0.2
    assert wrong["AOE"] > 1.2 and right["AOE"] < 0.1
