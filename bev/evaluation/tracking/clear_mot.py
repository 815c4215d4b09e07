"""CLEAR MOT numbers of one class at many score thresholds, in numpy: what the devkit gets from motmetrics' data frames.

Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics" (2008); thresholds
and MOTAR as of https://www.nuscenes.org/tracking. Every count is the devkit's, distances are to 1e-9 m, which a
test holds; its pandas tables take many times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

_FRAME_S = 0.5  # the devkit's time between two samples
_TRACKED, _LOST = 0.8, 0.2  # shares of its life in which an object is mostly tracked, mostly lost
Numbers = dict[str, float]


@dataclass(frozen=True, eq=False)
class Frame:
    """One class in one sample: T true and P predicted boxes, interpolated where their track has a hole.

    Attributes:
        objects: (T,) numbers of the objects, from 0 on in each scene.
        tracks: (P,) numbers of the tracks, likewise.
        score: (P,) mean score of each box's track.
        distance_m: (T, P) between the centres on the ground, NaN from the distance on from which nothing is a match.
    """

    objects: np.ndarray
    tracks: np.ndarray
    score: np.ndarray
    distance_m: np.ndarray


@dataclass(eq=False)
class Events:
    """What became of every true box, in order of time, over all scenes.

    Attributes:
        objects: (E,) number of the object, over all scenes.
        frame: (E,) number of the sample in its scene, of those that hold any box of the class.
        kind: (E,) 0: missed, 1: found, 2: found by another track than before.
        distance_m: of the pairs, with a zero for each missed and false box: the order in which the devkit adds them up.
        scores: of the pairs that are no switch.
        frames, false_boxes: counts.
    """

    objects: np.ndarray
    frame: np.ndarray
    kind: np.ndarray
    distance_m: np.ndarray
    scores: np.ndarray
    frames: int
    false_boxes: int


def centre_distances(first: np.ndarray, second: np.ndarray, limit_m: float) -> np.ndarray:
    """(N, M) distances in m between (N, 2) and (M, 2) points, NaN from ``limit_m`` on.

    By products, as the devkit has it of scikit-learn: far from the origin it is 1e-5 m off, as the official is.
    """
    product = -2 * (first @ second.T)
    product += np.einsum("ij,ij->i", first, first)[:, None]
    product += np.einsum("ij,ij->i", second, second)[None, :]
    distance: np.ndarray = np.sqrt(np.maximum(product, 0))
    distance[distance >= limit_m] = np.nan
    return distance


class _Scene:
    """Pairs of one scene: a pair lasts while it can, the rest by the least sum of distances."""

    def __init__(self, objects: int) -> None:
        self._track_of = np.full(objects, -1, np.int64)  # the last one, also of objects that were missed since

    def pair(self, objects: np.ndarray, tracks: np.ndarray, distance: np.ndarray) -> tuple[list[int], list[int], int]:
        """Rows and columns of the pairs, and how many at the end are no continuation."""
        if not distance.size:
            return [], [], 0
        column_of, rows, columns = {track: j for j, track in enumerate(tracks.tolist())}, [], []
        for i, track in enumerate(self._track_of[objects].tolist()):
            j = column_of.get(track, -1)
            if j >= 0 and distance[i, j] >= 0:  # not NaN
                rows.append(i)
                columns.append(j)
                del column_of[track]
        found, rest = _assign(distance, rows, columns)
        self._track_of[objects[found]] = tracks[rest]
        return rows + found, columns + rest, len(found)

    def before(self, objects: np.ndarray) -> np.ndarray:
        """The last track of each object, -1: none."""
        before: np.ndarray = self._track_of[objects]
        return before


def _assign(distance: np.ndarray, rows: list[int], columns: list[int]) -> tuple[list[int], list[int]]:
    """Pairs of the rows and columns that are not taken."""
    cost = distance.copy()
    cost[rows, :] = np.nan
    cost[:, columns] = np.nan
    valid = np.isfinite(cost)
    if not valid.any():
        return [], []
    # motmetrics' price of a forbidden pair: more than all allowed ones. Kept, since it decides between equal sums.
    price = 2 * min(cost.shape) * (np.abs(cost[valid]).max() + 1) + 1
    pairs = zip(*(x.tolist() for x in linear_sum_assignment(np.where(valid, cost, price))))
    kept = [(i, j) for i, j in pairs if valid[i, j]]
    return [i for i, _ in kept], [j for _, j in kept]


def match(scenes: Sequence[Sequence[Frame]], threshold: float | None) -> Events:
    """Pair true and predicted boxes of score ``threshold`` or above (None: all) through every scene."""
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    offset = frames = false_boxes = 0
    for scene in scenes:
        count = 1 + max((int(f.objects.max(initial=-1)) for f in scene), default=-1)
        state, number = _Scene(count), 0
        for frame in scene:
            kept = np.arange(len(frame.tracks)) if threshold is None else np.flatnonzero(frame.score >= threshold)
            if not len(kept) and not len(frame.objects):
                continue
            before, tracks, distance = state.before(frame.objects), frame.tracks[kept], frame.distance_m[:, kept]
            rows, columns, fresh = state.pair(frame.objects, tracks, distance)
            kind = np.zeros(len(frame.objects), np.int64)
            kind[rows] = 1
            new = rows[len(rows) - fresh :]
            kind[new] += (before[new] >= 0) & (before[new] != tracks[columns[len(rows) - fresh :]])
            false = len(kept) - len(rows)
            added = np.append(distance[rows, columns], np.zeros(len(kind) - len(rows) + false))
            held = np.sort(kept[[j for i, j in zip(rows, columns) if kind[i] == 1]])
            number_of = np.full(len(kind), number)
            parts.append((frame.objects + offset, number_of, kind, added, frame.score[held]))
            false_boxes, number = false_boxes + false, number + 1
        offset, frames = offset + count, frames + number
    columns_ = [np.concatenate(c) for c in zip(*parts)] if parts else [np.zeros(0, np.int64)] * 3 + [np.zeros(0)] * 2
    objects, frame_of, kinds, distances, scores = columns_
    return Events(objects, frame_of, kinds, distances, scores, frames, false_boxes)


def thresholds_of(scores: np.ndarray, boxes: int, recall: np.ndarray) -> np.ndarray:
    """(R,) score at which each recall of ``recall`` (rising) is reached, NaN where it never is.

    Args:
        scores: of the true positives.
        boxes: true ones, which must be at least as many.
    """
    if not len(scores):
        return np.full(len(recall), np.nan)
    reached = np.arange(1, len(scores) + 1) / boxes
    found: np.ndarray = np.interp(recall, reached, np.sort(scores)[::-1], right=0)
    found[recall > reached[-1]] = np.nan
    return found


def numbers_of(events: Events) -> Numbers:
    """The devkit's metrics of one threshold by its names; there must be a true box."""
    found, switches = int((events.kind == 1).sum()), int((events.kind == 2).sum())
    boxes, missed = len(events.kind), int((events.kind == 0).sum())
    errors = missed + switches + events.false_boxes
    recall = found / boxes
    net = errors - (1 - recall) * boxes
    return {
        "gt": boxes,
        "tp": found,
        "fp": events.false_boxes,
        "fn": missed,
        "ids": switches,
        "recall": (found + switches) / boxes,
        "motar": max(0.0, 1 - net / (recall * boxes)) if recall * boxes else np.nan,
        "mota": max(0.0, 1.0 - errors / boxes),
        "motp": float(events.distance_m.sum() / (found + switches)) if found + switches else np.nan,
        "faf": events.false_boxes / events.frames * 100,
        **_lives(events),
    }


def _lives(events: Events) -> Numbers:
    """Numbers of whole objects: mostly tracked and lost ones, fragments, time to the first box, longest gap."""
    order = np.argsort(events.objects, kind="stable")
    starts = np.flatnonzero(np.diff(events.objects[order], prepend=-1))
    tracked = lost = fragments = known = 0
    wait_s = gap_s = 0.0
    seen_all, frame_all = events.kind[order] > 0, events.frame[order]
    for seen, frame in zip(np.split(seen_all, starts[1:]), np.split(frame_all, starts[1:])):
        hits = np.flatnonzero(seen)
        share = len(hits) / len(seen)
        tracked, lost = tracked + (share >= _TRACKED), lost + (share < _LOST)
        if not len(hits):
            continue
        known += 1
        life = seen[hits[0] : hits[-1] + 1]
        fragments += int((life[:-1] & ~life[1:]).sum())
        wait_s += (frame[hits[0]] - frame[0]) * _FRAME_S
        edges = np.concatenate([[frame[0] - 1], frame[hits], [frame[-1] + 1]])
        gap_s += (np.diff(edges).max() - 1) * _FRAME_S
    means = (wait_s / known, gap_s / known) if known else (np.nan, np.nan)
    return {"mt": tracked, "ml": lost, "frag": fragments, "tid": means[0], "lgd": means[1]}
