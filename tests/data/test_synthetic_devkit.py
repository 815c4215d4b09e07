"""The official devkit reads the synthetic nuScenes unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bev.data.synthetic import VAL_SPLIT

pytest.importorskip("nuscenes", reason="needs the extra [nuscenes]")


@pytest.fixture(scope="module")
def devkit(synthetic_root: Path) -> Any:
    from nuscenes import NuScenes

    return NuScenes("v1.0-synthetic", str(synthetic_root), verbose=False)


def ground_truth_as_results(devkit: Any, scene_name: str) -> dict[str, list[dict[str, Any]]]:
    from nuscenes.eval.detection.utils import category_to_detection_name

    results: dict[str, list[dict[str, Any]]] = {}
    for sample in devkit.sample:
        if devkit.get("scene", sample["scene_token"])["name"] != scene_name:
            continue
        boxes = results.setdefault(sample["token"], [])
        for token in sample["anns"]:
            record = devkit.get("sample_annotation", token)
            name = category_to_detection_name(record["category_name"])
            if name is not None:
                attribute = [devkit.get("attribute", t)["name"] for t in record["attribute_tokens"]]
                boxes.append(
                    {
                        "sample_token": sample["token"],
                        "translation": record["translation"],
                        "size": record["size"],
                        "rotation": record["rotation"],
                        "velocity": devkit.box_velocity(token)[:2].tolist(),
                        "detection_name": name,
                        "detection_score": 1.0,
                        "attribute_name": (attribute + [""])[0],
                    }
                )
    return results


def test_ground_truth_as_predictions_is_perfect(devkit: Any, tmp_path: Path) -> None:
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    splits = json.loads((Path(devkit.dataroot) / devkit.version / "splits.json").read_text())
    meta = {f"use_{k}": k == "camera" for k in ("camera", "lidar", "radar", "map", "external")}
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"meta": meta, "results": ground_truth_as_results(devkit, splits[VAL_SPLIT][0])}))
    referee = DetectionEval(
        devkit, config_factory("detection_cvpr_2019"), str(path), VAL_SPLIT, str(tmp_path / "out"), verbose=False
    )
    metrics = referee.evaluate()[0].serialize()
    assert metrics["mean_ap"] == pytest.approx(1.0, abs=1e-9), metrics["label_aps"]
    assert metrics["nd_score"] == pytest.approx(1.0, abs=1e-9), metrics["tp_errors"]


def test_velocities_are_the_tracks_and_nan_only_where_nuscenes_has_no_neighbour(devkit: Any) -> None:
    missing, moving = 0, 0
    for record in devkit.sample_annotation:
        velocity = devkit.box_velocity(record["token"])
        stamps = [
            devkit.get("sample", devkit.get("sample_annotation", record[side])["sample_token"])["timestamp"]
            for side in ("prev", "next")
            if record[side]
        ]
        own = devkit.get("sample", record["sample_token"])["timestamp"]
        span = (max(stamps + [own]) - min(stamps + [own])) * 1e-6
        lonely = not stamps or span > (1.5 if len(stamps) == 1 else 3.0)
        assert np.isnan(velocity).all() == lonely
        missing += lonely
        moving += not lonely and np.linalg.norm(velocity[:2]) > 1.0
    assert missing > 0 and moving > 50


def test_the_devkit_counts_the_same_points(devkit: Any) -> None:
    from nuscenes.utils.data_classes import LidarPointCloud
    from nuscenes.utils.geometry_utils import points_in_box

    compared = 0
    for sample in devkit.sample[::3]:
        path, boxes, _ = devkit.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = LidarPointCloud.from_file(path).points[:3]
        for box in boxes:
            stored = devkit.get("sample_annotation", box.token)["num_lidar_pts"]
            # float32 points within a micrometre of a face may fall on either side
            assert abs(int(points_in_box(box, points).sum()) - stored) <= max(1, round(0.02 * stored))
            compared += stored > 0
    assert compared > 50


def test_the_map_mask_covers_the_roads_the_objects_drive_on(devkit: Any) -> None:
    for scene in devkit.scene:
        log = devkit.get("log", scene["log_token"])
        mask = devkit.get("map", log["map_token"])["mask"]
        sample = devkit.get("sample", scene["first_sample_token"])
        pose = devkit.get("ego_pose", devkit.get("sample_data", sample["data"]["LIDAR_TOP"])["ego_pose_token"])
        x, y = pose["translation"][:2]
        assert mask.is_on_mask(x, y).all()
        ring = np.linspace(0, 2 * np.pi, 90)
        share = mask.is_on_mask(x + 40 * np.cos(ring), y + 40 * np.sin(ring)).mean()
        assert 0.1 < share < 0.9, "40 m away there are both roads and yards"
        boxes = [devkit.get("sample_annotation", t) for t in sample["anns"]]
        driving = [
            b["translation"][:2]
            for b in boxes
            if any(devkit.get("attribute", t)["name"] == "vehicle.moving" for t in b["attribute_tokens"])
        ]
        assert all(mask.is_on_mask(*at).all() for at in driving)


def test_render_sample_draws(devkit: Any, tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    path = tmp_path / "sample.png"
    devkit.render_sample(devkit.sample[1]["token"], out_path=str(path), verbose=False)
    plt.close("all")
    assert path.stat().st_size > 20_000
