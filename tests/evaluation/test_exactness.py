"""Our evaluator against the devkit, to the last bit, on generated boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.data.frame_boxes import boxes_in_global
from bev.data.nuscenes.dataset import frames_of_split
from bev.data.nuscenes.store import load_index
from bev.evaluation.nuscenes import evaluate_official, evaluate_submission
from bev.evaluation.nuscenes.agreement import differences
from bev.evaluation.nuscenes.curves import FIELDS
from bev.evaluation.nuscenes.evaluate import Evaluation, evaluate_columns
from bev.evaluation.nuscenes.filters import scored
from bev.evaluation.nuscenes.settings import DetectionSettings
from bev.evaluation.nuscenes.submission import detections, write_submission
from bev.structures.conventions import CLASSES
from tests.evaluation.devkit_referee import assert_identical, official
from tests.evaluation.odd_columns import odd_case
from tests.evaluation.random_columns import random_case

pytest.importorskip("nuscenes")

CHALLENGE = DetectionSettings()
CASES = st.fixed_dictionaries(
    dict(
        seed=st.integers(0, 2**32 - 1),
        samples=st.integers(1, 6),
        boxes=st.integers(0, 40),
        predictions=st.integers(0, 80),
        grid_m=st.sampled_from([0.0, 0.25, 0.5, 4.0]),
        score_steps=st.sampled_from([1, 2, 5, 1000]),
        classes=st.sampled_from([(0,), (5,), (9,), (5, 9), (6, 7), (7, 8), tuple(range(10))]),
        unknown=st.sampled_from([0.0, 0.3, 1.0]),
        racks=st.integers(0, 4),
    )
)


def compare(case: Any, choice: DetectionSettings = CHALLENGE) -> Evaluation:
    """Score with both; everything must be equal."""
    samples = len(case[2].ego_m)
    ours = evaluate_columns(*case, [f"token{i}" for i in range(samples)], choice)
    assert_identical(ours, *official(*case, choice, samples))
    return ours


@settings(max_examples=60, deadline=None, derandomize=True)
@given(CASES)
def test_identical_on_generated_sets(options: dict[str, Any]) -> None:
    compare(random_case(**options))


def test_identical_on_a_crowded_set_and_with_other_settings() -> None:
    case = random_case(seed=7, samples=30, boxes=900, predictions=3000, score_steps=40, grid_m=0.25, racks=12)
    ours = compare(case)
    assert min(row["AP"] for row in ours.scores["classes"].values()) > 0.01
    assert not scored(case[1], case[2], CHALLENGE.class_range_m).all()
    other = DetectionSettings({"car": 20.0, "barrier": 45.5}, (0.25, 1.5, 3.0), 1.5, 0.25, 0.05, 3)
    assert compare(case, other).scores["NDS"] != ours.scores["NDS"]


def test_the_comparison_notices_a_wrong_order_of_ties() -> None:
    """Earlier boxes first among equal scores is what everyone writes; it must not pass."""
    case = random_case(seed=7, samples=30, boxes=900, predictions=3000, score_steps=40)
    rows = np.arange(len(case[1]))[::-1]
    turned = replace(case[1][rows], sample=case[1].sample[rows])
    with pytest.raises(AssertionError):
        ours = evaluate_columns(case[0], turned, case[2], ["token"] * 30)
        assert_identical(ours, *official(*case, CHALLENGE, 30))


@pytest.mark.parametrize("empty", ["truth", "predicted", "both", "no samples"])
def test_nothing_to_compare(empty: str) -> None:
    truth, predicted, surroundings = random_case(seed=1)
    none = np.zeros(0, int)
    truth = truth[none] if empty != "predicted" else truth
    predicted = predicted[none] if empty != "truth" else predicted
    ours = compare((truth, predicted, surroundings))
    assert ours.scores["NDS"] == ours.scores["mAP"] == 0 and ours.scores["classes"]["car"]["ATE"] == 1
    assert {getattr(ours.curves["car"][0], field).shape for field in FIELDS} == {(101,)}


def test_all_velocities_and_attributes_unknown() -> None:
    truth, predicted, surroundings = random_case(seed=5, boxes=200, predictions=300, unknown=1.0)
    ours = compare((truth, predicted, surroundings))
    assert ours.scores["mAVE"] == ours.scores["mAAE"] == 1 and ours.scores["mASE"] < 1


def test_every_match_is_at_the_same_distance() -> None:
    """Four boxes around each prediction, all exactly as far: the first of the file is taken, then the next."""
    truth, predicted, surroundings = random_case(seed=2, samples=1, boxes=4, predictions=3, classes=(0,), racks=0)
    around = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]]) * 0.25
    ego = surroundings.ego_m[0]
    case = (
        replace(truth, center_m=ego + around, num_pts=np.ones(4, np.int32)),
        replace(predicted, center_m=np.tile(ego, (3, 1)), score=np.full(3, 0.5)),
        surroundings,
    )
    ours = compare(case)
    assert ours.matched.tolist() == [[2, 1, 0]] * 4  # the last prediction chooses first


def test_bike_racks_take_bicycles_out() -> None:
    case = random_case(seed=3, samples=4, boxes=200, predictions=300, classes=(6, 7, 8), racks=8)
    with_racks = compare(case)
    case[2].rack_size_m[:] = 1e-3
    without = compare(case)
    assert len(with_racks.truth) < len(without.truth)
    assert len(with_racks.predicted) < len(without.predicted)
    people = CLASSES.index("pedestrian")
    assert (with_racks.truth.label == people).sum() == (without.truth.label == people).sum()


def test_scores_below_zero_are_refused() -> None:
    truth, predicted, surroundings = random_case(seed=4, boxes=100, predictions=200)
    lower = replace(predicted, score=predicted.score - 2)
    with pytest.raises(ValueError, match="scores below 0 cannot be scored"):
        evaluate_columns(truth, lower, surroundings, ["token"] * 5)


def test_identical_on_the_synthetic_folder(synthetic_root: Path, tmp_path: Path) -> None:
    """From the folder's tables and a file to the scores, with the devkit's own reading of the tables beside it."""
    version, split = "v1.0-synthetic", "synthetic_val"
    index, rng = load_index(synthetic_root, version), np.random.default_rng(0)
    records = {}
    for frame in frames_of_split(index, synthetic_root / version, split).tolist():
        boxes = boxes_in_global(index, frame)
        boxes.center_m[:] += torch.from_numpy(rng.normal(0, 0.8, boxes.center_m.shape))
        boxes.score[:] = torch.from_numpy(rng.integers(0, 20, len(boxes)) / 20)
        records[index.token[frame]] = detections(index.token[frame], boxes)
    write_submission(tmp_path / "r.json", records)
    where = (tmp_path / "r.json", synthetic_root, version, split)
    ours = evaluate_submission(*where)
    found, compared = differences(ours, *evaluate_official(*where))
    assert not found and compared == 7 + 1 + 10 * 10 + 10 * 4 * 8 * 101
    assert ours.scores["mAP"] > 0.1


def test_identical_on_odd_values() -> None:
    for seed in range(24):
        choice = CHALLENGE if seed % 3 else DetectionSettings({"car": 2.0}, (0.5, 1.0, 2.0, 3.0), 2.0, 0.0, 0.0)
        truth, predicted, surroundings, samples = odd_case(seed)
        with np.errstate(all="ignore"):  # overflows, in the devkit as here
            compare((truth, predicted, surroundings), choice)
