"""Ground truth as predictions: out through a submission and back must score 1.0."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from bev.data.checks import Finding
from bev.data.checks.inspect import spread
from bev.data.frames import FrameDataset
from bev.engine.check_data.scores import PresentScores, present_scores
from bev.evaluation.nuscenes.columns import truth_columns
from bev.evaluation.nuscenes.evaluate import evaluate_columns
from bev.evaluation.nuscenes.filters import surroundings_of
from bev.evaluation.nuscenes.read import read_columns
from bev.evaluation.nuscenes.submission import Detection, detections, to_global, write_submission

_PERFECT, _MAX_FRAMES = 0.999, 1000


def round_trip(dataset: FrameDataset) -> tuple[PresentScores, list[Finding]]:
    """Score the data set's own boxes, as samples have them, against its tables.

    Boxes go the way of predictions: reference frame in float32, global frame, records of a submission, JSON, the
    evaluator. At most a thousand frames, spread evenly.

    Returns:
        The scores, and a finding where NDS is not 1.0.
    """
    positions = spread(np.unique(dataset.frames, return_index=True)[1], _MAX_FRAMES)
    poses, results = dataset.poses(), dict[str, list[Detection]]()
    for position in positions.tolist():
        boxes, token = dataset.boxes(position), dataset.tokens[position]
        results[token] = [] if boxes is None else detections(token, to_global(boxes, poses[position]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truth.json"
        write_submission(path, results)
        predicted, tokens = read_columns(path)
    frames = [dataset.index.frame_of[token] for token in tokens]
    done = evaluate_columns(
        truth_columns(dataset.index, frames), predicted, surroundings_of(dataset.index, frames), tokens
    )
    scores = present_scores(done)
    if scores.nds >= _PERFECT or not scores.classes:
        return scores, []
    return scores, [Finding("round_trip", f"{scores} where NDS 1.0 is expected")]
