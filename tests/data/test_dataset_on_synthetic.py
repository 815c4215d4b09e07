"""The synthetic world through index, data set and metric, with the devkit as the referee."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.data.nuscenes.store import load_index
from bev.geometry.boxes import points_in_boxes
from bev.geometry.projection import in_image, project
from bev.registry import DATASETS, METRICS
from bev.structures import Boxes3D, Sample, collate

VERSION = "v1.0-synthetic"


def _dataset(root: Path, **options: Any) -> Any:
    image = dict(type="ImageTransform", size=(64, 176))
    cfg = dict(type="NuScenesDataset", root=str(root), version=VERSION, split="synthetic_train", image=image)
    return DATASETS.build({**cfg, **options})


def test_the_index_is_what_the_devkit_says(synthetic_root: Path) -> None:
    pytest.importorskip("nuscenes")
    from tests.data.devkit_referee import assert_index_equals_devkit, assert_sweeps_equal_devkit, open_devkit

    index, devkit = load_index(synthetic_root, VERSION), open_devkit(synthetic_root, VERSION)
    assert_index_equals_devkit(index, devkit)
    assert len(index.sweep_file) == 2 * len(index) - len(index.scenes)  # a sweep between each two key frames
    assert assert_sweeps_equal_devkit(index, devkit) > 2 * len(index)


@pytest.mark.parametrize("frame", ["lidar", "ego"])
def test_ground_truth_as_predictions_scores_one(synthetic_root: Path, frame: str) -> None:
    pytest.importorskip("nuscenes")
    mirror = [dict(type="RigMirror", probability=0.5, frame=frame)]
    dataset = _dataset(synthetic_root, frame=frame, transforms=mirror)
    options = dict(root=str(synthetic_root), version=VERSION, split="synthetic_train")
    metric = METRICS.build(dict(type="NuScenesMetric", show=False, **options))
    for i in range(len(dataset)):
        batch = collate([dataset[i]])
        metric.process(batch, batch.boxes)
    scores = metric.evaluate(len(dataset))
    perfect = [name for name, value in scores.items() if name.startswith("AP/") and value > 0.999]
    present = [name for name, value in scores.items() if name.startswith("AP/") and value > 0]
    assert perfect == present and len(present) >= 5
    assert scores["mAP"] == pytest.approx(len(present) / 10, abs=1e-6)
    assert max(scores[f"{kind}/car"] for kind in ("ATE", "ASE", "AOE", "AVE", "AAE")) < 2e-3


def test_points_in_boxes_are_the_counts_of_the_tables(synthetic_root: Path) -> None:
    """In the ego frame, where boxes stand upright as in the world; the LiDAR leans by a degree."""
    dataset = _dataset(synthetic_root, load_points=True, frame="ego")
    total = 0
    for i in range(0, len(dataset), 3):
        sample = dataset[i]
        counted = points_in_boxes(sample.points.xyz_m, sample.boxes).sum(1)
        # float32 coordinates: a point on a surface may fall on either side.
        assert int((counted - sample.boxes.num_lidar_pts).abs().max()) <= 1
        total += len(counted)
    assert total > 30


def _colour_at(sample: Sample, xyz_m: torch.Tensor) -> list[torch.Tensor]:
    """RGB under each point, in the cameras that see it."""
    pixels, depth = project(xyz_m, sample.rig.img_from_ref)
    seen = in_image(pixels, depth, sample.rig.image_size_px)
    u, v = pixels.long().unbind(-1)
    return [sample.images[c, :, v[c, p], u[c, p]].float() for c, p in seen.nonzero().tolist()]


def _sorted_sums(colours: list[torch.Tensor]) -> np.ndarray:
    """Brightnesses in ascending order: the mirror's cameras come in another order."""
    return np.sort(torch.stack(colours).sum(1).numpy())


def test_the_mirror_shows_the_same_colours_at_the_same_places(synthetic_root: Path) -> None:
    plain = _dataset(synthetic_root)[2]
    mirrored = _dataset(synthetic_root, transforms=[dict(type="RigMirror", probability=1.0)])[2]
    boxes: Boxes3D = plain.boxes
    found = _colour_at(plain, boxes.center_m)
    reflected = _colour_at(mirrored, boxes.center_m * torch.tensor([-1.0, 1, 1]))
    wrong = _colour_at(mirrored, boxes.center_m)
    assert len(found) == len(reflected) > 5
    # A pixel on a border may be rounded to its neighbour.
    assert np.median(np.abs(_sorted_sums(found) - _sorted_sums(reflected))) <= 6
    assert len(wrong) != len(found) or np.median(np.abs(_sorted_sums(found) - _sorted_sums(wrong))) > 6
