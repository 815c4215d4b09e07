"""The synthetic nuScenes' folder: tables, chains, files, timing, and the same bytes for the same seed."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bev.data.synthetic import TRAIN_SPLIT, VAL_SPLIT, generate
from bev.data.synthetic.options import SceneKey
from bev.data.synthetic.rig import CAMERAS, SENSORS
from bev.data.synthetic.taxonomy import ATTRIBUTES, CATEGORIES, SIZES

Tables = dict[str, list[dict[str, Any]]]
VERSION = "v1.0-synthetic"
NAMES = (
    "category",
    "attribute",
    "visibility",
    "instance",
    "sensor",
    "calibrated_sensor",
    "ego_pose",
    "log",
    "scene",
    "sample",
    "sample_data",
    "sample_annotation",
    "map",
)
TINY = {"scenes": 2, "frames_per_scene": 2, "width": 64, "height": 36, "sweeps": 1}


@pytest.fixture(scope="module")
def tables(synthetic_root: Path) -> Tables:
    return {name: json.loads((synthetic_root / VERSION / f"{name}.json").read_text()) for name in NAMES}


def by_token(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["token"]: row for row in rows}


def digests(root: Path, *folders: str) -> dict[str, str]:
    files = [p for folder in folders or (".",) for p in sorted((root / folder).rglob("*")) if p.is_file()]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_no_token_dangles_and_none_is_used_twice(tables: Tables) -> None:
    known = {name: by_token(rows) for name, rows in tables.items()}
    for name, rows in tables.items():
        assert len(known[name]) == len(rows), name
    links = {
        "scene_token": "scene",
        "sample_token": "sample",
        "instance_token": "instance",
        "log_token": "log",
        "category_token": "category",
        "visibility_token": "visibility",
        "sensor_token": "sensor",
        "ego_pose_token": "ego_pose",
        "calibrated_sensor_token": "calibrated_sensor",
        "first_sample_token": "sample",
        "last_sample_token": "sample",
        "first_annotation_token": "sample_annotation",
        "last_annotation_token": "sample_annotation",
    }
    checked = defaultdict(int)
    for name, rows in tables.items():
        for row in rows:
            for field, other in links.items():
                if field in row:
                    assert row[field] in known[other], (name, field)
                    checked[field] += 1
            assert set(row.get("attribute_tokens", [])) <= set(known["attribute"])
            assert set(row.get("log_tokens", [])) <= set(known["log"])
    assert set(checked) == set(links)


@pytest.mark.parametrize(
    "table, group",
    [("sample", "scene_token"), ("sample_data", "calibrated_sensor_token"), ("sample_annotation", "instance_token")],
)
def test_chains_run_both_ways_through_each_group_in_order_of_time(tables: Tables, table: str, group: str) -> None:
    rows, samples = by_token(tables[table]), by_token(tables["sample"])

    def stamp(row: dict[str, Any]) -> int:
        return row["timestamp"] if "timestamp" in row else samples[row["sample_token"]]["timestamp"]

    groups = defaultdict(list)
    for row in rows.values():
        groups[row[group]].append(row)
        if row["next"]:
            assert rows[row["next"]]["prev"] == row["token"]
            assert rows[row["next"]][group] == row[group]
            assert stamp(rows[row["next"]]) > stamp(row)
    for members in groups.values():
        heads = [row for row in members if not row["prev"]]
        assert len(heads) == 1
        length, row = 1, heads[0]
        while row["next"]:
            row, length = rows[row["next"]], length + 1
        assert length == len(members)


def test_instances_count_their_annotations(tables: Tables) -> None:
    counts = defaultdict(int)
    for row in tables["sample_annotation"]:
        counts[row["instance_token"]] += 1
    annotations = by_token(tables["sample_annotation"])
    for row in tables["instance"]:
        assert row["nbr_annotations"] == counts[row["token"]] > 0
        assert annotations[row["first_annotation_token"]]["prev"] == ""
        assert annotations[row["last_annotation_token"]]["next"] == ""


def test_every_key_frame_has_seven_sensors_that_fire_in_the_rig_order(tables: Tables, synthetic_root: Path) -> None:
    calibrations, sensors = by_token(tables["calibrated_sensor"]), by_token(tables["sensor"])
    samples = by_token(tables["sample"])
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in tables["sample_data"]:
        channel = sensors[calibrations[row["calibrated_sensor_token"]]["sensor_token"]]["channel"]
        assert (synthetic_root / row["filename"]).is_file()
        assert row["filename"].startswith("samples/" if row["is_key_frame"] else "sweeps/LIDAR_TOP/")
        if row["is_key_frame"]:
            found[row["sample_token"]][channel] = row["timestamp"] - samples[row["sample_token"]]["timestamp"]
    assert set(found) == set(samples)
    order = [s.channel for s in sorted(SENSORS, key=lambda s: s.delay_us)]
    for offsets in found.values():
        assert sorted(offsets, key=lambda c: offsets[c]) == order
        assert offsets["LIDAR_TOP"] == 0
        assert all(abs(offsets[s.channel] - s.delay_us) <= 400 for s in CAMERAS)
    assert len({tuple(o.values()) for o in found.values()}) > 1, "the offsets never vary"


def test_key_frames_are_half_a_second_apart_and_sweeps_lie_between_them(tables: Tables) -> None:
    samples = by_token(tables["sample"])
    for row in samples.values():
        if row["prev"]:
            assert abs(row["timestamp"] - samples[row["prev"]]["timestamp"] - 500_000) <= 3000
    sweeps = [row for row in tables["sample_data"] if not row["is_key_frame"]]
    assert len(sweeps) == len(samples) - len(tables["scene"])  # one between each pair, none before the first
    for row in sweeps:
        after = samples[row["sample_token"]]
        assert samples[after["prev"]]["timestamp"] < row["timestamp"] < after["timestamp"]


def test_ego_poses_differ_by_sensor_and_follow_the_drive(tables: Tables) -> None:
    poses = by_token(tables["ego_pose"])
    moved = 0
    for row in tables["sample_data"]:
        own = poses[row["ego_pose_token"]]
        assert own["timestamp"] == row["timestamp"]
        assert abs(np.linalg.norm(own["rotation"]) - 1) < 1e-9
        if row["prev"]:
            before = poses[by_token(tables["sample_data"])[row["prev"]]["ego_pose_token"]] if moved < 40 else own
            step = np.linalg.norm(np.subtract(own["translation"], before["translation"]))
            assert step < 15 * (own["timestamp"] - before["timestamp"]) * 1e-6 + 1e-9
            moved += step > 0.05
    assert moved > 20


def test_pictures_clouds_and_map_masks_have_the_declared_form(tables: Tables, synthetic_root: Path) -> None:
    for row in tables["sample_data"][:14]:
        path = synthetic_root / row["filename"]
        if row["fileformat"] == "jpg":
            picture = cv2.imread(str(path))
            assert picture.shape == (row["height"], row["width"], 3) == (112, 200, 3)
            assert picture.std() > 15
        else:
            points = np.fromfile(path, np.float32).reshape(-1, 5)
            assert 10_000 < len(points) <= 32 * 1084
            assert np.isfinite(points).all()
            assert set(points[:, 4]) <= set(range(32))
            assert points[:, 3].min() >= 0 and points[:, 3].max() <= 255 and (points[:, 3] % 1 == 0).all()
    for row in tables["map"]:
        assert set(np.unique(cv2.imread(str(synthetic_root / row["filename"]), cv2.IMREAD_UNCHANGED))) == {0, 255}


def test_calibration_is_the_real_rig_scaled(tables: Tables) -> None:
    sensors = by_token(tables["sensor"])
    for row in tables["calibrated_sensor"]:
        sensor = next(s for s in SENSORS if s.channel == sensors[row["sensor_token"]]["channel"])
        assert row["translation"] == list(sensor.translation_m)
        if sensor.focal_px is None:
            assert row["camera_intrinsic"] == []
        else:
            assert np.allclose(np.array(row["camera_intrinsic"])[0] * 8, [sensor.focal_px, 0, sensor.center_px[0]])


def test_attributes_fit_categories_and_motion(tables: Tables) -> None:
    attributes = {row["token"]: row["name"] for row in tables["attribute"]}
    categories = {row["token"]: row["name"] for row in tables["category"]}
    instances, samples = by_token(tables["instance"]), by_token(tables["sample"])
    annotations, seen = by_token(tables["sample_annotation"]), set()
    assert set(attributes.values()) == set(ATTRIBUTES) and set(categories.values()) == set(CATEGORIES)
    for row in annotations.values():
        category = categories[instances[row["instance_token"]]["category_token"]]
        names = [attributes[t] for t in row["attribute_tokens"]]
        if category.startswith("movable_object"):
            assert names == []
            continue
        kind = (
            "cycle"
            if category in ("vehicle.bicycle", "vehicle.motorcycle")
            else "pedestrian" if category.startswith("human") else "vehicle"
        )
        assert len(names) == 1 and names[0].startswith(kind)
        seen.add(names[0])
        if row["next"] and row["prev"]:
            first, last = annotations[row["prev"]], annotations[row["next"]]
            span = (samples[last["sample_token"]]["timestamp"] - samples[first["sample_token"]]["timestamp"]) * 1e-6
            speed = np.linalg.norm(np.subtract(last["translation"], first["translation"])) / span
            if names[0] in ("vehicle.parked", "cycle.without_rider", "pedestrian.sitting_lying_down"):
                assert speed < 0.01
            if names[0] in ("vehicle.moving", "pedestrian.moving"):
                assert speed > 0.05
    assert len(seen) >= 6


def test_boxes_have_the_statistics_of_their_category_and_stand_on_the_ground(tables: Tables) -> None:
    categories = {row["token"]: row["name"] for row in tables["category"]}
    instances = by_token(tables["instance"])
    for row in tables["sample_annotation"]:
        assert abs(row["translation"][2] - row["size"][2] / 2) < 2e-6
        assert row["num_radar_pts"] == 0
        category = categories[instances[row["instance_token"]]["category_token"]]
        mean, spread = np.array(SIZES[category].mean_wlh_m), np.array(SIZES[category].spread_wlh_m)
        if not category.startswith("human"):  # those who sit have their own size
            slack = 2 * spread + [0, 0, 0.33]  # with or without a rider
            assert (np.abs(np.array(row["size"]) - mean) <= slack + 1e-6).all(), (category, row["size"])


def test_boxes_without_points_lie_beyond_every_class_range(tables: Tables) -> None:
    poses = by_token(tables["ego_pose"])
    ego = {
        row["sample_token"]: poses[row["ego_pose_token"]]["translation"]
        for row in tables["sample_data"]
        if row["is_key_frame"] and row["fileformat"] == "pcd"
    }
    ranges = [
        (row["num_lidar_pts"], np.hypot(*np.subtract(row["translation"], ego[row["sample_token"]])[:2]))
        for row in tables["sample_annotation"]
    ]
    assert all(points > 0 or distance > 50 for points, distance in ranges)
    assert max(distance for _, distance in ranges) < 75


def test_splits_hold_out_scenes(synthetic_root: Path) -> None:
    splits = json.loads((synthetic_root / VERSION / "splits.json").read_text())
    assert splits == {TRAIN_SPLIT: ["scene-0001", "scene-0002"], VAL_SPLIT: [SceneKey(True, 0).name]}


def test_same_seed_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    one = digests(generate(tmp_path / "one", seed=3, workers=1, **TINY))
    two = digests(generate(tmp_path / "two", seed=3, workers=2, **TINY))
    assert one == two
    other = digests(generate(tmp_path / "other", seed=4, workers=1, **TINY))
    assert not set(one.values()) & {v for k, v in other.items() if k.endswith((".jpg", ".bin"))}


def test_a_scene_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few = digests(generate(tmp_path / "few", seed=3, **TINY), "samples", "sweeps")
    many = digests(generate(tmp_path / "many", seed=3, val_scenes=1, **{**TINY, "scenes": 3}), "samples", "sweeps")
    assert few.items() <= many.items()
    assert len(set(many.values())) == len(many), "two scenes share a file"
