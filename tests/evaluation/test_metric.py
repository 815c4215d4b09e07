"""NuScenesMetric from batches to scores, with the devkit's own program as the referee."""

from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bev.evaluation import evaluate_nuscenes
from bev.evaluation.nuscenes import DetectionSettings
from bev.io import FileError
from bev.registry import DATASETS, METRICS
from bev.structures import Boxes3D, collate
from tests.data.tiny_nuscenes import VERSION, TinyNuScenes

pytest.importorskip("nuscenes")


@pytest.fixture(scope="module")
def crowded_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough objects that every class is there."""
    return TinyNuScenes(seed=3, objects=150).write(tmp_path_factory.mktemp("crowded"))


def _dataset(root: Path, **options: Any) -> Any:
    cfg = dict(type="NuScenesDataset", root=str(root), version=VERSION, split="tiny_train", frame="lidar")
    return DATASETS.build({**cfg, "image": dict(type="ImageTransform", size=(16, 32)), **options})


def _metric(root: Path, **options: Any) -> Any:
    return METRICS.build(
        dict(type="NuScenesMetric", root=str(root), version=VERSION, split="tiny_train", show=False, **options)
    )


def _noisy(boxes: Boxes3D, seed: int) -> Boxes3D:
    """Predictions that are nearly right, with ties in their scores."""
    g = torch.Generator().manual_seed(seed)
    n = len(boxes)
    return replace(
        boxes,
        center_m=boxes.center_m + 0.7 * torch.randn(n, 3, generator=g),
        size_m=boxes.size_m * (1 + 0.2 * torch.rand(n, 3, generator=g)),
        yaw_rad=boxes.yaw_rad + 0.3 * torch.randn(n, generator=g),
        score=(torch.rand(n, generator=g) * 20).round() / 20,
        attribute=None,
    )


def _run(metric: Any, dataset: Any, predict: Any, batch_size: int = 2) -> dict[str, float]:
    for start in range(0, len(dataset), batch_size):
        batch = collate([dataset[i] for i in range(start, min(start + batch_size, len(dataset)))])
        metric.process(batch, [predict(b, start + k) for k, b in enumerate(batch.boxes)])
    return metric.evaluate(len(dataset))


@pytest.mark.parametrize("options", [{}, dict(frame="ego"), dict(transforms=[dict(type="RigMirror", probability=1.0)])])
def test_ground_truth_as_predictions_scores_one(crowded_root: Path, options: dict[str, Any]) -> None:
    scores = _run(_metric(crowded_root), _dataset(crowded_root, **options), lambda boxes, _: boxes)
    present = {name.partition("/")[2] for name, value in scores.items() if name.startswith("AP/") and value > 0}
    assert len(present) == 10
    assert scores["mAP"] == pytest.approx(1.0, abs=1e-9)
    # Boxes whose neighbours in time are too far apart have no velocity, in the truth and here.
    assert scores["NDS"] == pytest.approx(1.0, abs=2e-3)
    assert max(scores["mATE"], scores["mASE"], scores["mAOE"]) < 1e-3


def test_no_boxes_scores_zero_and_an_unpredicted_sample_counts_as_empty(
    crowded_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metric, dataset = _metric(crowded_root), _dataset(crowded_root)
    scores = _run(metric, dataset, lambda boxes, _: Boxes3D.empty("lidar"))
    assert scores["NDS"] == scores["mAP"] == 0
    batch = collate([dataset[0]])
    metric.process(batch, batch.boxes)
    metric.process(batch, [Boxes3D.empty("lidar")])  # a second result for one frame does not count
    some = metric.evaluate(len(dataset))
    assert 0 < some["mAP"] < 0.9 and "3 of 4 samples were not predicted" in caplog.text
    part = _metric(crowded_root, partial=True)
    part.process(batch, batch.boxes)
    assert part.evaluate(1)["mAP"] > some["mAP"]


def test_a_report_is_written(crowded_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    _run(_metric(crowded_root, report=str(tmp_path / "page")), _dataset(crowded_root), _noisy)
    page = (tmp_path / "page" / "report.html").read_text()
    assert page.count("data:image/png") >= 4 and "Worst misses" in page
    assert (tmp_path / "page" / "report.md").exists()


def test_equal_to_the_devkits_own_program(crowded_root: Path, tmp_path: Path) -> None:
    from nuscenes import NuScenes
    from nuscenes.eval.detection.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    out = tmp_path / "results.json"
    scores = _run(_metric(crowded_root, out=str(out)), _dataset(crowded_root), _noisy)
    with contextlib.redirect_stdout(io.StringIO()):
        tables = NuScenes(version=VERSION, dataroot=str(crowded_root), verbose=False)
        official = DetectionEval(
            tables, config_factory("detection_cvpr_2019"), str(out), "tiny_train", str(tmp_path), verbose=False
        ).main(render_curves=False)
    assert 0.05 < scores["NDS"] < 0.95
    assert scores["NDS"] == official["nd_score"] and scores["mAP"] == official["mean_ap"]
    names = {"mATE": "trans_err", "mASE": "scale_err", "mAOE": "orient_err", "mAVE": "vel_err", "mAAE": "attr_err"}
    for ours, theirs in names.items():
        assert scores[ours] == official["tp_errors"][theirs]
    for name, value in official["mean_dist_aps"].items():
        assert scores[f"AP/{name}"] == value
    saved = json.loads((tmp_path / "results_scores.json").read_text())
    assert saved["NDS"] == scores["NDS"] and saved["classes"]["traffic_cone"]["AOE"] is None
    assert saved["classes"]["car"]["AP@2.0"] == official["label_aps"]["car"][2.0]
    assert math.isnan(scores["AOE/traffic_cone"])


def test_the_convention_fingerprint(crowded_root: Path) -> None:
    """Length and width exchanged, and the old yaw: the scores say so where the eye does not."""

    def wrong(boxes: Boxes3D, _: int) -> Boxes3D:
        return replace(boxes, size_m=boxes.size_m[:, [1, 0, 2]], yaw_rad=-boxes.yaw_rad - math.pi / 2)

    scores = _run(_metric(crowded_root), _dataset(crowded_root), wrong)
    assert scores["mAP"] > 0.99 and scores["mASE"] > 0.3 and scores["mAOE"] > 0.8


def test_scenes_and_custom_ranges(crowded_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    _run(_metric(crowded_root, out=str(out)), _dataset(crowded_root), _noisy)
    by_name = evaluate_nuscenes(out, crowded_root, VERSION, "tiny_train")
    by_list = evaluate_nuscenes(out, crowded_root, VERSION, ["scene-a"])
    assert by_list["NDS"] == by_name["NDS"] and by_list["samples"] == 4
    near = evaluate_nuscenes(out, crowded_root, VERSION, "tiny_train", settings=DetectionSettings({"car": 15.0}))
    assert near["classes"]["car"]["AP"] != by_name["classes"]["car"]["AP"]
    assert near["classes"]["bus"]["AP"] == by_name["classes"]["bus"]["AP"]
    with pytest.raises(FileError, match="3 of the 3 samples of the split are missing"):
        evaluate_nuscenes(out, crowded_root, VERSION, "tiny_val")
    with pytest.raises(ValueError, match="cars.*did you mean 'car'"):
        _metric(crowded_root, class_range_m={"cars": 3.0})


def test_a_prediction_for_an_unknown_sample_is_an_error(crowded_root: Path, tiny_root: Path) -> None:
    metric = _metric(crowded_root)
    sample = replace(_dataset(tiny_root)[0], token="nowhere")
    with pytest.raises(ValueError, match="sample nowhere, which is not in"):
        metric.process(collate([sample]), [sample.boxes])
