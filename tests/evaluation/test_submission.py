"""Submissions: what is written can be scored, and what cannot be scored is refused by name."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.evaluation.nuscenes.read import read_columns
from bev.evaluation.nuscenes.samples import check_samples
from bev.evaluation.nuscenes.settings import CLASS_RANGE_M
from bev.evaluation.nuscenes.submission import (
    detections,
    in_class_range,
    read_submission,
    to_global,
    write_submission,
)
from bev.geometry.rotations import rotation_about_z
from bev.geometry.transforms import rigid
from bev.io import FileError
from bev.structures import Boxes3D
from bev.structures.conventions import ATTRIBUTES, CLASSES
from tests.data.samples import random_boxes

POSE = rigid(rotation_about_z(torch.tensor(0.5)).double(), torch.tensor([1000.5, -2000.25, 3.0]).double())


def global_boxes(count: int, seed: int = 0) -> Boxes3D:
    boxes = random_boxes(np.random.default_rng(seed), count)
    return to_global(replace(boxes, score=torch.rand(count, generator=torch.Generator().manual_seed(seed))), POSE)


def test_records_are_best_first_wlh_and_global() -> None:
    boxes = global_boxes(20)
    records = detections("t", boxes)
    order = boxes.score.argsort(descending=True).tolist()
    for record, i in zip(records, order, strict=True):
        assert record.sample_token == "t" and record.detection_name == CLASSES[int(boxes.label[i])]
        assert record.translation == tuple(boxes.center_m[i].tolist())
        length, width, height = boxes.size_m[i].tolist()
        assert record.size == (width, length, height)
        w, x, y, z = record.rotation
        assert x == y == 0 and math.isclose(math.cos(2 * math.atan2(z, w)), float(boxes.yaw_rad[i].cos()), abs_tol=1e-9)
        expected = torch.nan_to_num(boxes.velocity_mps[i], nan=0.0).tolist()
        assert record.velocity == tuple(expected) and record.detection_score == float(boxes.score[i])


def test_global_boxes_keep_millimetres_far_from_the_origin() -> None:
    boxes = random_boxes(np.random.default_rng(0), 10)
    moved = to_global(boxes, POSE)
    assert moved.center_m.dtype == torch.float64
    back = moved.transform(torch.linalg.inv(POSE), "lidar")
    torch.testing.assert_close(back.center_m.float(), boxes.center_m, atol=1e-6, rtol=0)
    torch.testing.assert_close(back.velocity_mps.float(), boxes.velocity_mps, equal_nan=True, atol=1e-6, rtol=0)


def test_the_writer_keeps_the_500_best() -> None:
    boxes = global_boxes(700)
    records = detections("t", boxes)
    assert len(records) == 500
    assert min(r.detection_score for r in records) >= float(boxes.score.sort(descending=True).values[499])


def test_attributes_are_predicted_or_usual() -> None:
    boxes = global_boxes(4)
    boxes = replace(
        boxes,
        label=torch.tensor([0, 0, 8, 5]),
        velocity_mps=torch.tensor([[3.0, 0], [0.0, 0.1], [0.0, 0], [0, 0]]).double(),
        score=torch.tensor([0.9, 0.8, 0.7, 0.6]).double(),
    )
    assert [d.attribute_name for d in detections("t", boxes)] == [
        "vehicle.moving",
        "vehicle.parked",
        "pedestrian.standing",
        "",
    ]
    told = replace(boxes, attribute=torch.tensor([ATTRIBUTES.index("vehicle.stopped"), -1, 3, -1]))
    assert [d.attribute_name for d in detections("t", told)] == [
        "vehicle.stopped",
        "vehicle.parked",
        "pedestrian.sitting_lying_down",
        "",
    ]


def test_predictions_that_are_not_finite_are_named() -> None:
    boxes = global_boxes(3)
    broken = replace(boxes, size_m=boxes.size_m * torch.tensor([1.0, math.inf, 1.0]))
    with pytest.raises(ValueError, match="sample abc: a predicted size_m is not finite"):
        detections("abc", broken)
    with pytest.raises(ValueError, match="global frame, got 'lidar'"):
        detections("abc", random_boxes(np.random.default_rng(0), 2))


def test_range_is_by_class_around_the_vehicle() -> None:
    centers = torch.tensor([[1000.5 + d, -2000.25, 3.0] for d in (29.0, 31.0, 39.0, 41.0, 49.0, 51.0)]).double()
    like = global_boxes(6)
    car, cone = (
        in_class_range(replace(like, center_m=centers, label=torch.full((6,), c)), POSE.numpy(), CLASS_RANGE_M).tolist()
        for c in (CLASSES.index("car"), CLASSES.index("traffic_cone"))
    )
    assert car == [True] * 5 + [False] and cone == [True] + [False] * 5


@pytest.fixture
def written(tmp_path: Path) -> Path:
    results = {"t1": detections("t1", global_boxes(3)), "t2": []}
    write_submission(tmp_path / "results.json", results)
    return tmp_path / "results.json"


def test_round_trip_and_the_devkit_reads_it(written: Path) -> None:
    submission = read_submission(written)
    assert submission.meta["use_camera"] is True and submission.results["t2"] == []
    assert submission.results["t1"] == detections("t1", global_boxes(3))
    check_samples(written, submission.results, ["t1", "t2"], ["t1", "t2", "t3"])
    loaders = pytest.importorskip("nuscenes.eval.common.loaders")
    from nuscenes.eval.detection.data_classes import DetectionBox

    boxes, _ = loaders.load_prediction(str(written), 500, DetectionBox)
    assert len(boxes.boxes["t1"]) == 3 and boxes.boxes["t2"] == []


def _edit(path: Path, change: Any) -> Path:
    document = json.loads(path.read_text())
    change(document["results"])
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["t1"].extend([r["t1"][0]] * 498), "sample t1 has 501 boxes, at most 500"),
        (lambda r: r["t1"][1].update(detection_name="cars"), "sample t1, box 1: unknown class 'cars'.*'car'"),
        (lambda r: r["t1"][1].update(attribute_name="vehicle.moved"), "unknown attribute 'vehicle.moved'.*moving"),
        (lambda r: r["t1"][2].update(translation=[1.0, float("nan"), 0.0]), "sample t1, box 2: holds a NaN"),
        (lambda r: r["t1"][2].update(detection_score=float("inf")), "sample t1, box 2: holds a NaN or infinite"),
        (lambda r: r["t1"][2].update(size=[1.0, 0.0, 1.0]), "sample t1, box 2: size"),
        (lambda r: r["t1"][2].update(size=[1.0, 2.0]), r"sample t1: Expected `array` of length 3.*\$\[2\]\.size"),
        (lambda r: r["t1"][0].pop("velocity"), r"sample t1: .*velocity.*\$\[0\]"),
        (lambda r: r["t1"][0].update(sample_token="t2"), "sample t1, box 0: its sample_token is 't2'"),
        (lambda r: r["t1"][0].update(detection_score=None), r"sample t1: Expected `float`, got `null`"),
        (lambda r: r["t1"][2].update(rotation=[0.0, 0, 0, 0]), "sample t1, box 2: size.*rotation.*not zero"),
        (lambda r: r["t1"][1].update(velocity=[float("-inf"), 0.0]), "sample t1, box 1: holds a NaN or infinite"),
        (lambda r: r["t1"][1].update(velocity=[None, 0.0]), "sample t1: Expected `float`, got `null`"),
        (lambda r: r["t1"][1].update(num_pts="3"), "sample t1: Expected `int`, got `str`"),
        (lambda r: r.update(t3={}), "sample t3: Expected `array`"),
        (lambda r: r["t1"].append("box"), "sample t1: Expected `object`, got `str`"),
    ],
)
@pytest.mark.parametrize("read", [read_submission, read_columns])
def test_a_bad_record_is_named(written: Path, change: Any, message: str, read: Any) -> None:
    with pytest.raises(FileError, match=message):
        read(_edit(written, change))


def test_columns_hold_what_the_records_hold(written: Path) -> None:
    def change(results: Any) -> None:
        results["t1"][1].update(velocity=[float("nan"), float("nan")], num_pts=0, detection_score=1)
        results["t0"] = results.pop("t2")  # and it comes last

    records = read_submission(_edit(written, change)).results["t1"]
    boxes, tokens = read_columns(written)
    assert tokens == ["t1", "t0"] and boxes.sample.tolist() == [0, 0, 0] and boxes.source.tolist() == [0, 1, 2]
    for i, record in enumerate(records):
        assert boxes.center_m[i].tolist() == list(record.translation)
        width, length, height = record.size
        assert boxes.size_m[i].tolist() == [length, width, height]
        assert boxes.rotation[i].tolist() == list(record.rotation)
        np.testing.assert_array_equal(boxes.velocity_mps[i], record.velocity)
        assert CLASSES[boxes.label[i]] == record.detection_name and boxes.score[i] == record.detection_score
        assert (ATTRIBUTES[boxes.attribute[i]] if boxes.attribute[i] >= 0 else "") == record.attribute_name
    assert np.isnan(boxes.velocity_mps[1]).all() and boxes.num_pts.tolist() == [-1, 0, -1]
    assert len(read_columns(_edit(written, lambda r: r["t1"].clear()))[0]) == 0


def test_bad_files_and_sample_sets_are_named(written: Path, tmp_path: Path) -> None:
    submission = read_submission(written)
    with pytest.raises(FileError, match="1 of the 3 samples of the split are missing, the first is t9"):
        check_samples(written, submission.results, ["t1", "t9", "t2"], ["t1", "t2", "t9"])
    with pytest.raises(FileError, match="sample t2 is not in the data set"):
        check_samples(written, submission.results, ["t1"], ["t1"])
    check_samples(written, submission.results, ["t1"], ["t1", "t2"])
    with pytest.raises(FileError, match="1 samples are not in the split, the first is t2"):
        check_samples(written, submission.results, ["t1"], ["t1", "t2"], exact=True)
    whole = written.read_text()
    for read in (read_submission, read_columns):
        for content in (whole[:-30], whole[:300], "", "NaN"):
            written.write_text(content)
            with pytest.raises(FileError, match="results.json: (malformed JSON|expected an object)"):
                read(written)
        for content in ("[]", '{"results": {}}', '{"meta": {}, "results": []}'):
            written.write_text(content)
            with pytest.raises(FileError, match="expected an object with 'meta' and 'results'"):
                read(written)
        with pytest.raises(FileError, match="none.json: cannot read"):
            read(tmp_path / "none.json")
