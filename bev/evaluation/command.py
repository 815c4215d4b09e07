"""What ``tools/evaluate.py`` does, task by task: score, print, write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bev.data.nuscenes.store import load_index
from bev.evaluation.coco import evaluate_coco, write_coco_report
from bev.evaluation.nuscenes import evaluate_official, evaluate_submission
from bev.evaluation.nuscenes.agreement import describe, differences, score_differences
from bev.evaluation.nuscenes.bootstrap import compare_scenes
from bev.evaluation.nuscenes.full_report import write_nuscenes_report
from bev.evaluation.nuscenes.report import print_comparison, print_scores, save_scores
from bev.evaluation.nuscenes.samples import chosen_tokens
from bev.evaluation.nuscenes.scores import Scores
from bev.evaluation.nuscenes.settings import DetectionSettings, read_settings
from bev.evaluation.tracking import evaluate_tracking, is_tracking_file
from bev.evaluation.tracking.report import print_tracking_scores, write_tracking_report

# Distances of the devkit depend in their last bits on how many boxes are multiplied at once.
TRACKING_TOLERANCE = 1e-9
DIFFERENT = 3  # status where the devkit's numbers are not ours


@dataclass(frozen=True)
class Request:
    """What to score, and what to write of it; every path may be None.

    Attributes:
        results: submission JSON (detections or tracks), or JSON list of COCO results.
        root, version, split: the nuScenes folder; version and split are needed with it.
        coco: COCO annotations, instead of a nuScenes folder.
        task: ``detection`` or ``tracking``; None: what the file holds.
        scenes, tokens: score these scenes, or the samples of this text file, only.
        config: settings in the devkit's format.
        official: run the devkit beside ours.
        report: folder for the page.
        compare: other detections on the same samples.
        out: file for the scores.
    """

    results: str
    root: str | None = None
    version: str | None = None
    split: str | None = None
    coco: str | None = None
    task: str | None = None
    scenes: Sequence[str] | None = None
    tokens: str | None = None
    config: str | None = None
    official: bool = False
    report: str | None = None
    compare: str | None = None
    out: str | None = None


def run(request: Request) -> int:
    """Score, print and write; returns the exit status, 3 where ``official`` finds a difference.

    Raises:
        FileError, ValueError: what was asked for cannot be used or does not fit together.
        ImportError: an extra is not installed.
    """
    if request.coco:
        return _run_coco(request)
    if not (request.root and request.version and request.split):
        raise ValueError("nuScenes results need --root, --version and --split")
    where = (request.root, request.version, request.split)
    index, folder = load_index(*where[:2]), Path(request.root) / request.version
    tokens = chosen_tokens(index, folder, request.split, request.scenes, request.tokens)
    tracks = request.task == "tracking" if request.task else is_tracking_file(request.results)
    return (_run_tracking if tracks else _run_detection)(request, where, tokens)


def _run_detection(request: Request, where: tuple[str, str, str], tokens: list[str] | None) -> int:
    settings = read_settings(request.config) if request.config else DetectionSettings()
    done = evaluate_submission(request.results, *where, settings, tokens)
    other = None
    print_scores(done.scores)
    _save(request, done.scores)
    if request.compare:
        other = evaluate_submission(request.compare, *where, settings, tokens)
        print_comparison(compare_scenes(done, other, *where[:2]))
    if request.report:
        print(f"report: {write_nuscenes_report(request.report, done, *where[:2], other=other)}")
    if not request.official:
        return 0
    found, compared = differences(done, *evaluate_official(request.results, *where, settings, tokens))
    print(describe(found, compared))
    return DIFFERENT if found else 0


def _run_tracking(request: Request, where: tuple[str, str, str], tokens: list[str] | None) -> int:
    if request.compare:
        raise ValueError("--compare is for detections; tracks are scored one file at a time")
    done = evaluate_tracking(request.results, *where, request.config, tokens, request.official)
    print_tracking_scores(done)
    _save(request, done.scores)
    if request.report:
        print(f"report: {write_tracking_report(request.report, done)}")
    if done.official is None:
        return 0
    found, compared = score_differences(done.scores, done.official, TRACKING_TOLERANCE)
    print(describe(found, compared, f"to {TRACKING_TOLERANCE:g}"))
    return DIFFERENT if found else 0


def _run_coco(request: Request) -> int:
    assert request.coco is not None
    done = evaluate_coco(request.results, request.coco)
    print(json.dumps({name: value for name, value in done.scores.items() if name != "classes"}, indent=2))
    if request.out:  # said by no line: what is printed is JSON, for other programs to read
        save_scores(request.out, done.scores)
    if request.report:
        print(f"report: {write_coco_report(request.report, done)}")
    return 0


def _save(request: Request, scores: Scores) -> None:
    if request.out:
        save_scores(request.out, scores)
        print(f"scores: {request.out}")
