"""Tracks in pictures: the two stages, gaps, starts, and videos made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bev.tracking import Tracker2D, Tracker2DSettings

STEP_S = 0.1
Box = tuple[float, float, float, float]


def ids(tracker: Tracker2D, k: int, *boxes: Box, scores: Any = None, labels: Any = None) -> list[int]:
    scores = [0.9] * len(boxes) if scores is None else scores
    labels = [0] * len(boxes) if labels is None else labels
    return tracker.update(list(boxes), scores, labels, STEP_S * k).tolist()


def at(x: float, y: float = 100.0, width: float = 40.0, height: float = 80.0) -> Box:
    return (x, y, x + width, y + height)


def test_people_that_cross_keep_their_numbers() -> None:
    """Two boxes walk through each other; half way they cover each other wholly but for 20 px of height."""
    tracker = Tracker2D()
    for k in range(21):
        assert ids(tracker, k, at(100.0 + 10 * k), at(300.0 - 10 * k, 120.0)) == [1, 2], k


def test_a_low_score_continues_a_track_and_starts_none() -> None:
    """The heart of the two stages; and it takes no detection that a surer one can have."""
    tracker = Tracker2D()
    assert ids(tracker, 0, at(100), at(500), scores=[0.9, 0.3]) == [1, -1]
    assert ids(tracker, 1, at(102), at(500), scores=[0.2, 0.3]) == [1, -1], "half hidden"
    assert ids(tracker, 2, at(104), at(104), scores=[0.2, 0.9]) == [-1, 1], "the surer one first"
    assert ids(tracker, 3, at(106), scores=[0.05]) == [-1], "too low for either stage"


def test_a_low_score_does_not_wake_a_lost_track() -> None:
    tracker = Tracker2D()
    ids(tracker, 0, at(100))
    assert ids(tracker, 1) == []
    assert ids(tracker, 2, at(100), scores=[0.3]) == [-1]
    assert ids(tracker, 3, at(100), scores=[0.9]) == [1]


def test_a_number_survives_a_gap_and_not_a_longer_one() -> None:
    for missed, expected in ((4, [1]), (5, [-1])):
        tracker = Tracker2D(Tracker2DSettings(max_age_s=0.5 + 1e-9))
        for k in range(5):
            assert ids(tracker, k, at(10.0 * k)) == [1]
        for k in range(5, 5 + missed):
            assert ids(tracker, k) == []
        assert ids(tracker, 5 + missed, at(10.0 * (5 + missed))) == expected, "moved on while it was hidden"


def test_a_new_object_counts_from_its_second_picture_on() -> None:
    tracker = Tracker2D()
    assert ids(tracker, 0, at(100)) == [1], "all of the first picture do"
    assert ids(tracker, 1, at(100), at(300)) == [1, -1]
    assert ids(tracker, 2, at(100), at(300)) == [1, 2]
    assert ids(tracker, 3, at(100), at(600)) == [1, -1]
    assert ids(tracker, 4, at(100)) == [1]
    assert ids(tracker, 5, at(100), at(600)) == [1, -1], "it was missed at once, so it begins again"


def test_classes() -> None:
    for same_class, expected in ((True, -1), (False, 1)):
        tracker = Tracker2D(Tracker2DSettings(same_class=same_class))
        ids(tracker, 0, at(100), labels=[3])
        assert ids(tracker, 1, at(100), labels=[4]) == [expected]


def test_boxes_that_only_touch_are_not_the_same() -> None:
    tracker = Tracker2D(Tracker2DSettings(min_iou=(0.0, 0.0, 0.0)))
    ids(tracker, 0, at(100, width=40))
    assert ids(tracker, 1, at(140, width=40)) == [-1]


def test_a_noisy_video_has_few_switches() -> None:
    """Eight people on straight lines, detections shaken and every tenth missing: 430 detections, at most 4 switches."""
    rng, tracker, last, switches = np.random.default_rng(0), Tracker2D(), {}, 0
    start, speed = rng.uniform([50, 50], [1200, 500], (8, 2)), rng.uniform(-180, 180, (8, 2)) * [1, 0.2]
    numbered = 0
    for k in range(60):
        seen = np.flatnonzero(rng.random(8) > 0.1)
        corner = (start + speed * STEP_S * k)[seen] + rng.normal(0, 2, (len(seen), 2))
        boxes = [at(x, y) for x, y in corner.tolist()]
        for person, number in zip(seen.tolist(), ids(tracker, k, *boxes)):
            if number >= 0:
                numbered += 1
                switches += last.setdefault(person, number) != number
                last[person] = number
    assert switches <= 4 and numbered > 420


def test_a_batch_of_tensors_and_nothing_at_all() -> None:
    tracker = Tracker2D()
    assert tracker.update(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), 0.0).tolist() == []
    found = tracker.update(torch.tensor([at(5.0)], requires_grad=True), torch.tensor([0.9]), torch.tensor([1]), 0.1)
    assert found.dtype == np.int64 and found.tolist() == [-1]
    tracker.reset()
    assert ids(tracker, 0, at(5.0)) == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([at(0)], [0.9, 0.8], [1], 1.0), "do not fit together"),
        (([[0.0, 0.0, 1.0]], [0.9], [1], 1.0), "do not fit together"),
        (([(5.0, 0.0, 5.0, 9.0)], [0.9], [1], 1.0), r"box 0 has no area: \[5.0, 0.0, 5.0, 9.0\]"),
        (([at(float("nan"))], [0.9], [1], 1.0), "not finite"),
        (([at(0)], [0.9], [1], 0.0), "time 0.0 s does not follow 0.0 s"),
    ],
)
def test_bad_input(arguments: Any, message: str) -> None:
    tracker = Tracker2D()
    tracker.update([at(100)], [0.9], [0], 0.0)
    with pytest.raises(ValueError, match=message):
        tracker.update(*arguments)
    assert ids(tracker, 1, at(100)) == [1], "and nothing was lost"


@pytest.mark.parametrize(
    "change", [dict(low_score=0.7), dict(min_iou=(0.1, 0.2)), dict(min_iou=(0.1, 0.2, 1.0)), dict(max_age_s=0)]
)
def test_bad_settings(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Tracker2DSettings(**change)
