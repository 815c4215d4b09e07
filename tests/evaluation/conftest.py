"""Fixtures of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from bev.data.frame_boxes import boxes_in_global
from bev.data.nuscenes.store import load_index
from bev.evaluation.nuscenes.submission import detections, write_submission
from tests.data.tiny_fixtures import own_root, tiny_root  # noqa: F401
from tests.data.tiny_nuscenes import VERSION, TinyNuScenes


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with enough objects to score."""
    return TinyNuScenes(seed=3, objects=60).write(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="session")
def results(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shifted ground truth of every scene of ``root``, some of it under a wrong class."""
    index, records = load_index(root, VERSION), {}
    for frame in range(len(index)):
        boxes = boxes_in_global(index, frame)
        boxes.center_m[:, 0] += 0.1 * (boxes.center_m[:, 1] % 8)
        boxes.score[:] = (boxes.center_m[:, 2] + boxes.size_m[:, 0]).round() / 10
        boxes.label[::9] = 0
        records[index.token[frame]] = detections(index.token[frame], boxes)
    path = tmp_path_factory.mktemp("results") / "results.json"
    write_submission(path, records)
    return path
