"""Tracks in space: numbers, gates, life cycle, scores and headings on scenes made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bev.structures import Boxes3D
from bev.structures.conventions import CLASSES
from bev.tracking import ClassTracking, Tracker3D, TrackerSettings

CAR, PERSON, CONE = (CLASSES.index(name) for name in ("car", "pedestrian", "traffic_cone"))
STEP_S = 0.5


def boxes(*rows: tuple[float, float], **columns: Any) -> Boxes3D:
    """Cars of score 0.8 at (x, y) [m] that stand and look along +x; ``columns`` replace values."""
    m = len(rows)
    center = torch.tensor([[x, y, 1.0] for x, y in rows], dtype=torch.float64).reshape(m, 3)
    size = torch.tensor([[4.0, 2.0, 1.5]], dtype=torch.float64).repeat(m, 1)
    zero = torch.zeros(m, dtype=torch.float64)
    made = Boxes3D(center, size, zero, torch.zeros(m, 2).double(), zero.long() + CAR, zero + 0.8, "global")
    return replace(made, **{name: torch.as_tensor(value) for name, value in columns.items()})


def ids(tracker: Tracker3D, time_s: float, *rows: tuple[float, float], **columns: Any) -> list[int]:
    track_id = tracker.update(boxes(*rows, **columns), time_s).track_id
    assert track_id is not None
    return track_id.tolist()


def test_cars_that_cross_keep_their_numbers() -> None:
    """Two cars pass each other 1 m apart; the nearest box of the last frame would be the other one."""
    tracker = Tracker3D()
    for k in range(9):
        x = 8.0 * STEP_S * (k - 4)
        seen = ids(tracker, STEP_S * k, (x, 0.0), (-x, 1.0), velocity_mps=[[8.0, 0.0], [-8.0, 0.0]])
        assert seen == [0, 1], k


def test_a_number_survives_a_gap_and_not_a_longer_one() -> None:
    for missed, expected in ((5, 0), (6, 1)):
        tracker = Tracker3D(TrackerSettings(max_age_s=3.0))
        for k in range(4):
            ids(tracker, STEP_S * k, (2.0 * k, 0.0), velocity_mps=[[4.0, 0.0]])
        for k in range(4, 4 + missed):
            assert ids(tracker, STEP_S * k) == []
        k = 4 + missed
        assert ids(tracker, STEP_S * k, (2.0 * k, 0.0), velocity_mps=[[4.0, 0.0]]) == [expected]


def test_gates_and_classes() -> None:
    tracker = Tracker3D(TrackerSettings(classes={"car": ClassTracking("turn", 2.0)}, gate_sigma=1e6))
    assert ids(tracker, 0.0, (0.0, 0.0)) == [0]
    assert ids(tracker, 0.5, (2.1, 0.0)) == [1]
    assert ids(tracker, 1.0, (1.9, 0.0)) == [1], "the nearer of the two"
    tracker = Tracker3D()
    assert ids(tracker, 0.0, (0.0, 0.0), label=[CAR]) == [0]
    assert ids(tracker, 0.5, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), label=[PERSON, CONE, CAR]) == [1, 0]


def test_the_gate_in_standard_deviations() -> None:
    """Known to 0.5 m and seen with 0.5 m: after a tenth of a second 4 sigma are a little more than 2.83 m."""
    for x, same in ((2.8, True), (3.2, False)):
        tracker = Tracker3D(TrackerSettings(gate_sigma=4.0))
        ids(tracker, 0.0, (0.0, 0.0))
        assert (ids(tracker, 0.1, (0.0, x)) == [0]) is same


def test_start_and_least_scores() -> None:
    tracker = Tracker3D(TrackerSettings(min_score=0.1, start_score=0.5))
    assert ids(tracker, 0.0, (0.0, 0.0), (20.0, 0.0), score=[0.4, 0.6]) == [0]
    assert ids(tracker, 0.5, (20.0, 0.0), score=[0.2]) == [0], "continues"
    assert ids(tracker, 1.0, (20.0, 0.0), score=[0.05]) == [], "is not used"


def test_a_track_is_reported_once_it_is_confirmed() -> None:
    tracker = Tracker3D(TrackerSettings(confirm_hits=3))
    seen = [ids(tracker, STEP_S * k, (0.0, 0.0), *([(30.0, 0.0)] if k != 1 else [])) for k in range(4)]
    assert [len(x) for x in seen] == [0, 0, 1, 1], "the second was missed before it was confirmed"
    assert seen[2] == seen[3] == [0]


def test_a_scene_starts_anew_and_numbers_are_not_used_again() -> None:
    tracker = Tracker3D()
    assert ids(tracker, 5.0, (0.0, 0.0)) == [0]
    tracker.reset()
    assert ids(tracker, 0.0, (0.0, 0.0)) == [1]


def test_scores_are_refined_by_hand() -> None:
    tracker = Tracker3D(TrackerSettings(score_half_life_s=0.5))
    assert tracker.update(boxes((0.0, 0.0), score=[0.4]), 0.0).score.tolist() == pytest.approx([0.4])
    # 0.4 halves in 0.5 s; 1 - (1 - 0.2)(1 - 0.5) = 0.6; then missed, so 0.15; 1 - 0.85 * 0.9 = 0.235
    assert tracker.update(boxes((0.0, 0.0), score=[0.5]), 0.5).score.tolist() == pytest.approx([0.6])
    tracker.update(boxes(), 1.0)
    assert tracker.update(boxes((0.0, 0.0), score=[0.1]), 1.5).score.tolist() == pytest.approx([0.235])
    plain = Tracker3D(TrackerSettings(score="detection"))
    for k, score in enumerate((0.4, 0.5)):
        assert plain.update(boxes((0.0, 0.0), score=[score]), STEP_S * k).score.tolist() == pytest.approx([score])


def test_a_reversed_detection_does_not_turn_the_car() -> None:
    tracker = Tracker3D()
    for k, yaw in enumerate((0.1, 0.1, 0.1 + math.pi, 0.1 - math.pi, 0.1)):
        heading, speed = np.array([math.cos(0.1), math.sin(0.1)]), 6.0
        x, y = heading * speed * STEP_S * k
        seen = tracker.update(boxes((x, y), yaw_rad=[yaw], velocity_mps=[(heading * speed).tolist()]), STEP_S * k)
        assert seen.yaw_rad.item() == pytest.approx(0.1, abs=1e-6), k
        np.testing.assert_allclose(seen.velocity_mps.numpy(), [heading * speed], atol=1e-6)


def test_a_wrong_first_heading_is_outvoted() -> None:
    tracker = Tracker3D()
    seen = [tracker.update(boxes((0.0, 0.0), yaw_rad=[yaw]), STEP_S * k) for k, yaw in enumerate((3.1, 0.0, 0.0))]
    yaws = [each.yaw_rad.item() for each in seen]
    assert abs(yaws[0]) > 3 and abs(yaws[2]) < 0.1


def test_noise_is_filtered() -> None:
    """Positions of a steady car come out nearer to the truth than the detections are."""
    rng, tracker, errors = np.random.default_rng(0), Tracker3D(), []
    for k in range(60):
        truth = np.array([5.0 * STEP_S * k, 0.0])
        noisy = truth + rng.normal(0, 0.5, 2)
        seen = tracker.update(boxes(tuple(noisy.tolist()), velocity_mps=[[math.nan] * 2]), STEP_S * k)
        assert seen.track_id is not None and seen.track_id.tolist() == [0]
        errors.append((np.linalg.norm(noisy - truth), np.linalg.norm(seen.center_m[0, :2].numpy() - truth)))
    raw, filtered = np.array(errors[10:]).mean(0)
    assert filtered < 0.8 * raw
    assert seen.velocity_mps[0].tolist() == pytest.approx([5.0, 0.0], abs=1.0), "found from positions alone"


def test_velocities_that_are_not_trusted() -> None:
    wrong = [[-20.0, 0.0]]
    for use, same in ((True, False), (False, True)):
        tracker = Tracker3D(TrackerSettings(use_velocity=use))
        first = ids(tracker, 0.0, (0.0, 0.0), velocity_mps=wrong)
        assert (ids(tracker, 0.5, (1.0, 0.0), velocity_mps=wrong) == first) is same


def test_what_comes_back_belongs_to_its_detection() -> None:
    tracker = Tracker3D()
    given = boxes((0.0, 0.0), (9.0, 9.0), (30.0, 0.0), label=[PERSON, CONE, CAR], attribute=[2, -1, 5])
    seen = tracker.update(given, 0.0)
    assert seen.label.tolist() == [PERSON, CAR] and seen.attribute is not None and seen.attribute.tolist() == [2, 5]
    torch.testing.assert_close(seen.center_m, given.center_m[[0, 2]])
    torch.testing.assert_close(seen.size_m, given.size_m[[0, 2]])
    assert seen.frame == "global"


@pytest.mark.parametrize(
    ("given", "time_s", "message"),
    [
        (boxes((0.0, 0.0)), 1.0, "time 1.0 s does not follow 1.0 s"),
        (boxes((0.0, 0.0)), math.nan, "time nan s"),
        (replace(boxes((0.0, 0.0)), frame="ego"), 2.0, "needs a frame that does not move"),
        (boxes((math.nan, 0.0)), 2.0, "center_m is not finite"),
        (boxes((0.0, 0.0), score=[math.inf]), 2.0, "score is not finite"),
    ],
)
def test_bad_input(given: Boxes3D, time_s: float, message: str) -> None:
    tracker = Tracker3D()
    tracker.update(boxes((0.0, 0.0)), 1.0)
    with pytest.raises(ValueError, match=message):
        tracker.update(given, time_s)
    assert ids(tracker, 1.5, (0.0, 0.0)) == [0], "and nothing was lost"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(association="best"), "association must be one of"),
        (dict(cost="iou"), "cost must be one of"),
        (dict(max_age_s=0), "must be positive"),
        (dict(classes={"cra": ClassTracking("turn", 1.0)}), "did you mean 'car'"),
        (dict(classes={}), "no class to track"),
    ],
)
def test_bad_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrackerSettings(**change)
    with pytest.raises(ValueError, match="gate_m positive"):
        ClassTracking("turn", 0.0)
