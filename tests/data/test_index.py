"""The index says what the devkit says, is built once, and is built again when it must be."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bev.data.nuscenes import store, tables
from bev.data.nuscenes.splits import official_scenes, scenes_of_split
from bev.data.nuscenes.store import load_index
from bev.io import FileError
from tests.data.tiny_nuscenes import VERSION, edit_table


def test_equal_to_the_devkit_field_by_field(tiny_root: Path) -> None:
    pytest.importorskip("nuscenes")
    from tests.data.devkit_referee import assert_index_equals_devkit, open_devkit

    index = load_index(tiny_root, VERSION)
    assert_index_equals_devkit(index, open_devkit(tiny_root, VERSION))
    velocity = index.box_velocity_mps
    assert np.isnan(velocity).any() and np.isfinite(velocity).any()  # both rules were at work


def test_official_splits_are_the_devkits() -> None:
    pytest.importorskip("nuscenes")
    from nuscenes.utils.splits import create_splits_scenes

    for name, scenes in create_splits_scenes().items():
        assert sorted(official_scenes(name)) == sorted(scenes), name


def test_custom_splits_and_scene_lists(own_root: Path) -> None:
    folder, available = own_root / VERSION, ["scene-a", "scene-b", "scene-c"]
    assert scenes_of_split(folder, "tiny_val", available) == ["scene-b"]
    assert scenes_of_split(folder, ["scene-c", "scene-a"], available) == ["scene-c", "scene-a"]
    assert scenes_of_split(folder, "val", ["scene-0003", "scene-0004"]) == ["scene-0003"]
    with pytest.raises(FileError, match="tiny_vall.*did you mean 'tiny_val'"):
        scenes_of_split(folder, "tiny_vall", available)
    with pytest.raises(FileError, match="none of its 3 scenes is in split 'mini_val'.*tiny_train"):
        scenes_of_split(folder, "mini_val", available)
    with pytest.raises(FileError, match="no scene 'scene-d'"):
        scenes_of_split(folder, ["scene-d"], available)
    (folder / "splits.json").write_text('{"a": "scene-a"}')
    with pytest.raises(FileError, match="splits.json: expected an object of lists"):
        scenes_of_split(folder, "a", available)


class _Builds:
    """Counts the builds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = store.build_index

        def build(folder: Path) -> Any:
            self.count += 1
            return real(folder)

        monkeypatch.setattr(store, "build_index", build)


def test_built_once_and_again_when_a_table_changes(own_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = _Builds(monkeypatch)
    first = load_index(own_root, VERSION)
    second = load_index(own_root, VERSION)
    assert builds.count == 1 and isinstance(second.box_center_m.base, np.ndarray)
    np.testing.assert_array_equal(first.box_center_m, second.box_center_m)

    def grow(rows: list[dict[str, Any]]) -> None:
        rows[0]["size"] = [9.0, 8.0, 7.0]

    edit_table(own_root, "sample_annotation", grow)
    assert (load_index(own_root, VERSION).box_size_m == [8.0, 9.0, 7.0]).all(1).any() and builds.count == 2


def test_a_damaged_index_is_built_again(own_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = _Builds(monkeypatch)
    load_index(own_root, VERSION)
    (path,) = (own_root / VERSION / ".bev_index").glob("*.columns")
    path.write_bytes(path.read_bytes()[:1000])
    assert len(load_index(own_root, VERSION)) == 8 and builds.count == 2
    load_index(own_root, VERSION)
    assert builds.count == 2


def test_a_folder_that_cannot_be_written_uses_the_cache(
    own_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = _Builds(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (own_root / VERSION / ".bev_index").write_text("in the way")  # a folder of that name cannot be made
    load_index(own_root, VERSION)
    load_index(own_root, VERSION)
    assert builds.count == 1 and list((tmp_path / "cache").rglob("*.columns"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_root / VERSION / "sample.json"))  # and no cache either
    assert len(load_index(own_root, VERSION)) == 8 and builds.count == 2


def test_a_full_disk_leaves_nothing_half_written(own_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert len(load_index(own_root, VERSION)) == 8
    assert [p.suffix for p in (own_root / VERSION / ".bev_index").iterdir()] == [".lock"]


def _load(root: str, queue: Any) -> None:
    queue.put(len(load_index(root, VERSION)))


def test_processes_that_start_together(own_root: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_load, args=(str(own_root), queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert [queue.get(timeout=60) for _ in workers] == [8] * 4
    for worker in workers:
        worker.join()
    assert len(list((own_root / VERSION / ".bev_index").glob("*.columns"))) == 1


def _set(row: int, field: str, value: Any) -> Any:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[row][field] = value

    return change


@pytest.mark.parametrize(
    ("table", "row", "field", "value", "message"),
    [
        ("sample_data", 5, "ego_pose_token", "gone", "sample_data.ego_pose_token of record {token} points to 'gone'"),
        ("sample_data", 3, "calibrated_sensor_token", "x", "calibrated_sensor_token of record {token} points to 'x'"),
        ("sample_data", 3, "sample_token", "x", "sample_token of record {token} points to 'x'"),
        ("sample", 1, "scene_token", "x", "sample.scene_token of record {token} points to 'x'"),
        ("sample", 0, "next", "x", "sample.next of record {token} points to 'x'"),
        ("sample_annotation", 2, "instance_token", "x", "instance_token of record {token} points to 'x'"),
        ("sample_annotation", 2, "prev", "x", "sample_annotation.prev of record {token} points to 'x'"),
        ("sample_annotation", 2, "visibility_token", "9", "visibility_token of record {token} points to '9'"),
        ("sample_annotation", 2, "attribute_tokens", ["x"], "attribute_tokens of record {token} points to 'x'"),
        ("instance", 1, "category_token", "x", "instance.category_token of record {token} points to 'x'"),
        ("calibrated_sensor", 2, "translation", [0.0, float("nan"), 0.0], "record {token} holds a NaN"),
        ("calibrated_sensor", 2, "rotation", [0.0, 0.0, 0.0, 0.0], "record {token} has a rotation"),
        ("calibrated_sensor", 2, "camera_intrinsic", [[1, 2], [3, 4]], "record {token} needs a 3x3"),
        (
            "calibrated_sensor",
            2,
            "camera_intrinsic",
            [[float("nan"), 0, 1], [0, 1, 1], [0, 0, 1]],
            "record {token} has a NaN",
        ),
        ("calibrated_sensor", 2, "camera_intrinsic", [[-1, 0, 1], [0, 1, 1], [0, 0, 1]], "{token} has a focal length"),
        ("ego_pose", 4, "rotation", [float("inf"), 0, 0, 0], "record {token} holds a NaN or infinite"),
        ("sample_annotation", 0, "size", [1.0, -2.0, 1.0], "record {token} has a size that is not positive"),
        ("sample_annotation", 0, "translation", [1.0, float("nan"), 1.0], "record {token} holds a NaN"),
        ("sample_annotation", 0, "size", [1.0, 2.0], "sample_annotation.json: record {token}: Expected `array` of"),
        ("sample_data", 0, "timestamp", "noon", "sample_data.json: record {token}: Expected `int`"),
    ],
)
def test_a_bad_record_is_named(own_root: Path, table: str, row: int, field: str, value: Any, message: str) -> None:
    token = json.loads((own_root / VERSION / f"{table}.json").read_text())[row]["token"]
    edit_table(own_root, table, _set(row, field, value))
    with pytest.raises(FileError) as caught:
        load_index(own_root, VERSION)
    assert message.format(token=token) in str(caught.value) and str(own_root) in str(caught.value)
    assert table in str(caught.value)


def test_bad_tables_are_named(own_root: Path) -> None:
    path = own_root / VERSION / "ego_pose.json"
    path.write_text(path.read_text()[:-200])
    with pytest.raises(FileError, match="ego_pose.json: malformed JSON"):
        load_index(own_root, VERSION)
    path.unlink()
    with pytest.raises(FileError, match="ego_pose.json: cannot read"):
        load_index(own_root, VERSION)
    with pytest.raises(FileError, match=r"v9 is not a folder.*v1.0-tiny"):
        load_index(own_root, "v9")


def test_two_records_of_one_token_are_refused(own_root: Path) -> None:
    edit_table(own_root, "instance", lambda rows: rows.append(dict(rows[0])))
    with pytest.raises(FileError, match="table instance: token .* names two records"):
        load_index(own_root, VERSION)


def test_a_frame_without_lidar_is_named(own_root: Path) -> None:
    rows = json.loads((own_root / VERSION / "sample_data.json").read_text())
    gone = next(r for r in rows if "LIDAR_TOP" in r["filename"])
    edit_table(own_root, "sample_data", lambda table: table.remove(gone))
    with pytest.raises(FileError, match=f"record {gone['sample_token']} has no key frame of LIDAR_TOP"):
        load_index(own_root, VERSION)


@pytest.mark.parametrize("layout", ["{}", "\n[\n{}\n]\n"])
def test_large_tables_are_read_in_pieces(own_root: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    """However the text is cut, and where it cannot be cut, the rows are the same."""
    folder = own_root / VERSION
    rows = json.loads((folder / "sample_annotation.json").read_text())
    rows[3]["token"] = 'odd "},\n{"'  # looks like a border between records
    lines = layout.replace("{}", ",\n".join(json.dumps(row, indent=0) for row in rows))
    (folder / "sample_annotation.json").write_text(json.dumps(rows) if layout == "{}" else lines)
    whole = tables.read_table(folder, "sample_annotation", tables.Annotation)
    counts = set()
    for size in (64, 300, 1000, 5000, 1 << 20):
        monkeypatch.setattr(tables, "_CHUNK_BYTES", size)
        chunks = list(tables.iterate_table(folder, "sample_annotation", tables.Annotation))
        assert [row for chunk in chunks for row in chunk] == whole
        counts.add(len(chunks))
    assert max(counts) > 3 and min(counts) == 1
    (folder / "sample_annotation.json").write_text("[]")
    assert [row for c in tables.iterate_table(folder, "sample_annotation", tables.Annotation) for row in c] == []


def test_opening_reads_next_to_nothing(own_root: Path) -> None:
    load_index(own_root, VERSION)
    index = load_index(own_root, VERSION)
    for name in ("box_center_m", "sweep_global_from_ego", "global_from_ego"):
        base = getattr(index, name)
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap), name
