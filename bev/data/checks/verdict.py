"""One verdict of all witnesses: are boxes what they are read as, and if not, which mistake was made?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bev.data.checks import witnesses
from bev.data.checks.findings import Finding
from bev.data.checks.readings import AS_READ, READINGS, Reading
from bev.data.checks.table import BoxTable

# A witness is heard from so many boxes on.
_MIN_BOXES = 5
# Another reading is believed if it fits better on the average, much better for one witness, and not worse for any.
_BETTER, _MUCH_BETTER, _WORSE = 0.05, 0.2, 0.1
_ROUNDS = 3  # mistakes that are made together are undone one after the other
# Below it, and with nothing that explains it, something is wrong that we do not know.
_BAD, _MANY = 0.4, 20
# Those that must hold in any data set; the others have honest exceptions (hills, hidden objects).
_STRICT = ("sizes", "motion", "next frame")

Votes = dict[str, witnesses.Vote]


@dataclass(frozen=True)
class Verdict:
    """Outcome of :func:`judge`.

    Attributes:
        votes: of each witness on the boxes as they are read: (boxes that fit, boxes that were asked).
        findings: mistakes, none where the boxes are what they are read as.
    """

    votes: Votes
    findings: tuple[Finding, ...]


def judge(
    boxes: BoxTable, clouds: Sequence[witnesses.Cloud] = (), ground_m: float | None = None
) -> Verdict:
    """Hear all witnesses on all readings.

    Args:
        boxes: as they are read.
        clouds: points of some of the frames.
        ground_m: height of the ground in the ego frame; None where it is not known.
    """
    asked = witnesses.should_hold_points(boxes)
    first = votes = hear(boxes, asked, clouds, ground_m)
    findings: list[Finding] = []
    for _ in range(_ROUNDS):
        options = [(r, hear(r.apply(boxes), asked, clouds, ground_m)) for r in READINGS if r is not AS_READ]
        best, heard = max(options, key=lambda option: _fit(option[1], votes))
        if not _convinces(heard, votes):
            break
        findings += [Finding(name, _explain(best, votes, heard)) for name in best.mistakes]
        boxes, votes = best.apply(boxes), heard
    return Verdict(first, tuple(findings or _unexplained(first, boxes)))


def hear(
    boxes: BoxTable, asked: np.ndarray, clouds: Sequence[witnesses.Cloud], ground_m: float | None
) -> Votes:
    """What every witness says about the boxes; arguments as of :func:`judge` and ``witnesses.points``."""
    return {
        "range": witnesses.reach(boxes),
        "sizes": witnesses.sizes(boxes),
        "motion": witnesses.motion(boxes),
        "ground": witnesses.ground(boxes, ground_m),
        "next frame": witnesses.next_frame(boxes),
        "points": witnesses.points(boxes, asked, clouds),
    }


def _share(vote: witnesses.Vote) -> float:
    return vote[0] / vote[1] if vote[1] else 0.0


def _heard(votes: Mapping[str, witnesses.Vote]) -> list[str]:
    return [name for name, (_, asked) in votes.items() if asked >= _MIN_BOXES]


def _fit(votes: Votes, as_read: Votes) -> float:
    """Mean share over the witnesses that are heard on the boxes as they are read."""
    names = _heard(as_read)
    return float(np.mean([_share(votes[name]) for name in names])) if names else 0.0


def _convinces(votes: Votes, as_read: Votes) -> bool:
    gains = [_share(votes[name]) - _share(as_read[name]) for name in _heard(as_read)]
    if not gains:
        return False
    return bool(np.mean(gains) > _BETTER and max(gains) > _MUCH_BETTER and min(gains) > -_WORSE)


def _explain(reading: Reading, votes: Votes, heard: Votes) -> str:
    changed = [name for name in _heard(votes) if abs(_share(heard[name]) - _share(votes[name])) > 0.02]
    parts = [
        f"{witnesses.TEXTS[name]}: {votes[name][0]} of {votes[name][1]} as they are read, "
        f"{heard[name][0]} of {heard[name][1]} otherwise"
        for name in changed
    ]
    return f"The boxes fit {reading.meaning} ({'; '.join(parts)})"


def _unexplained(votes: Votes, boxes: BoxTable) -> list[Finding]:
    strict = (*_STRICT, "points") if witnesses.counted(boxes) else _STRICT
    bad = [name for name in strict if votes[name][1] >= _MANY and _share(votes[name]) < _BAD]
    return [
        Finding("unexplained", f"{witnesses.TEXTS[name]}: only {votes[name][0]} of {votes[name][1]}") for name in bad
    ]
