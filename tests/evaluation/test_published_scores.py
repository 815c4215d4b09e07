"""The box conventions carry real ground truth and real detections to the scores that were published for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pytest
import torch

from bev.data.frame_boxes import boxes_in_global
from bev.data.infos import index_of_infos, read_infos
from bev.evaluation.nuscenes.metric import CLASS_RANGE_M
from bev.evaluation.nuscenes.submission import detections, in_class_range, read_submission
from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES, BoxConvention
from tests.paths import real_data_dir

pytest.importorskip("nuscenes")

from nuscenes.eval.common.data_classes import EvalBoxes  # noqa: E402
from nuscenes.eval.detection.algo import accumulate, calc_ap, calc_tp  # noqa: E402
from nuscenes.eval.detection.config import config_factory  # noqa: E402
from nuscenes.eval.detection.data_classes import DetectionBox  # noqa: E402

ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err")


@dataclass
class Scores:
    ap: dict[str, dict[str, float]]
    errors: dict[str, dict[str, float]]

    @property
    def mean_ap(self) -> float:
        values = [v for row in self.ap.values() for v in row.values()]
        return sum(values) / len(values)


@lru_cache(maxsize=2)
def scores_with(convention: BoxConvention) -> Scores:
    """Fast-BEV's detections against the boxes of the info file, read with a convention."""
    folder = real_data_dir("nuscenes_mini_val")
    frames = read_infos(folder / "nuscenes_infos_val.pkl", convention)
    index = index_of_infos(frames, folder)
    submission = read_submission(folder / "results_nusc_fastbev_mini_val.json")
    truth, predicted = EvalBoxes(), EvalBoxes()
    for i, frame in enumerate(frames):
        boxes = boxes_in_global(index, i)
        seen = boxes.num_lidar_pts + boxes.num_radar_pts > 0
        kept = boxes[seen & in_class_range(boxes, index.global_from_ego[i], CLASS_RANGE_M)]
        # A submission has no unknown velocity; the truth has, and it is not scored.
        records = zip(detections(frame.token, kept), kept.velocity_mps.tolist())
        truth.add_boxes(frame.token, [_eval_box(d, tuple(velocity)) for d, velocity in records])
        rows = submission.results[frame.token]
        predicted.add_boxes(frame.token, _inside(rows, index.global_from_ego[i]))
    return _score(truth, predicted)


def _inside(rows: list[Any], global_from_ego: Any) -> list[DetectionBox]:
    boxes = Boxes3D.empty("global")
    if rows:
        centers = torch.tensor([d.translation for d in rows], dtype=torch.float64)
        label = torch.tensor([CLASSES.index(d.detection_name) for d in rows])
        one = torch.ones(len(rows), dtype=torch.float64)
        boxes = Boxes3D(centers, torch.ones_like(centers), one, centers[:, :2], label, one, "global")
    keep = in_class_range(boxes, global_from_ego, CLASS_RANGE_M).tolist()
    return [_eval_box(d, d.velocity) for d, inside in zip(rows, keep) if inside]


def _eval_box(d: Any, velocity: tuple[float, float]) -> DetectionBox:
    return DetectionBox(
        d.sample_token,
        d.translation,
        d.size,
        d.rotation,
        velocity,
        detection_name=d.detection_name,
        detection_score=float(d.detection_score),
        attribute_name=d.attribute_name,
    )


def _score(truth: EvalBoxes, predicted: EvalBoxes) -> Scores:
    config = config_factory("detection_cvpr_2019")
    scores = Scores({}, {})
    for name in config.class_names:
        data = {th: accumulate(truth, predicted, name, config.dist_fcn_callable, th) for th in config.dist_ths}
        scores.ap[name] = {str(th): calc_ap(data[th], config.min_recall, config.min_precision) for th in data}
        scores.errors[name] = {kind: calc_tp(data[config.dist_th_tp], config.min_recall, kind) for kind in ERRORS}
    return scores


def test_old_convention_boxes_give_the_published_scores() -> None:
    expected = json.loads((real_data_dir("nuscenes_mini_val") / "expected_metrics_official.json").read_text())
    scores = scores_with("mmdet3d_v0")
    assert scores.mean_ap == pytest.approx(expected["mean_ap"], abs=1e-12)
    for name, row in expected["label_aps"].items():
        assert scores.ap[name] == pytest.approx(row, abs=1e-12), name
    # The detections in the file are rounded to four decimals, the scores were taken before that.
    means = dict.fromkeys(ERRORS, 0.0)
    for name, row in expected["label_tp_errors"].items():
        for kind, value in row.items():
            if value is not None and kind in ERRORS:
                assert scores.errors[name][kind] == pytest.approx(value, abs=2e-5), (name, kind)
    for kind in means:
        classes = [name for name, row in expected["label_tp_errors"].items() if row[kind] is not None]
        means[kind] = sum(scores.errors[name][kind] for name in classes) / len(classes)
    assert means == pytest.approx(expected["tp_errors"], abs=5e-6)


def test_the_wrong_convention_shows_its_fingerprint() -> None:
    right, wrong = scores_with("mmdet3d_v0"), scores_with("mmdet3d_v1")
    assert wrong.mean_ap == pytest.approx(right.mean_ap, abs=1e-12)  # centres do not depend on it
    assert wrong.errors["car"]["scale_err"] > 0.5 and right.errors["car"]["scale_err"] < 0.2
    assert wrong.errors["car"]["orient_err"] > 1.2 and right.errors["car"]["orient_err"] < 0.1
