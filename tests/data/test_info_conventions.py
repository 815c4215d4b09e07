"""Flavours and conventions of info files: detected, reported, contradictions refused; and the way back to v2."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.data import InfoDataset, NuScenesDataset
from bev.data.infos import index_of_infos, open_infos, write_infos
from bev.data.nuscenes.store import load_index
from bev.io import FileError
from bev.io.pickle import read_pickle
from bev.structures.conventions import boxes_from_array, boxes_to_array
from tests.paths import real_data_dir
from tools.create_data import main


def _old_path() -> Path:
    return real_data_dir("nuscenes_mini_val") / "nuscenes_infos_val.pkl"


def _write(path: Path, content: Any) -> str:
    path.write_bytes(pickle.dumps(content))
    return str(path)


def _as_new_convention(row: dict[str, Any]) -> None:
    """The boxes of a 0.x record rewritten to l, w, h, yaw, by this library's independent inverse."""
    array = np.concatenate([row["gt_boxes"], row["gt_velocity"]], 1).astype(np.float64)
    boxes = boxes_from_array(torch.from_numpy(array), torch.zeros(len(array)), "mmdet3d_v0", "center")
    row["gt_boxes"] = boxes_to_array(boxes, "mmdet3d_v1", "center")[:, :7].numpy()


def test_the_real_old_file_is_recognised_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    infos = open_infos(_old_path())
    assert (infos.flavour, infos.convention) == ("mmdet3d 0.x", "mmdet3d_v0") and len(infos.frames) == 81
    assert infos.evidence.votes["sizes"] == [0, 3044] and infos.evidence.says("motion") == "mmdet3d_v0"
    assert "its boxes are mmdet3d_v0 (x, y, z, w, l, h, -yaw - pi/2)" in caplog.text and "3044" in caplog.text


def test_the_real_new_file_is_recognised_by_its_points_too() -> None:
    infos = open_infos(next(real_data_dir("nuscenes_frame").glob("*.pkl")))
    assert (infos.flavour, infos.convention) == ("mmdet3d 1.x", "mmdet3d_v1")
    assert {infos.evidence.says(w) for w in ("sizes", "motion", "points")} == {"mmdet3d_v1"}


def test_flavours_of_0x(tmp_path: Path) -> None:
    content = read_pickle(_old_path())
    content["infos"] = content["infos"][:12]
    plain = open_infos(_write(tmp_path / "a.pkl", content)).frames
    former, det = copy.deepcopy(content), copy.deepcopy(content)
    for i, row in enumerate(former["infos"]):
        row |= {"can_bus": np.zeros(18), "frame_idx": i, "prev": "", "next": "", "scene_token": f"s{i // 6}"}
    for row in det["infos"]:
        row |= {"ann_infos": (row["gt_boxes"].tolist(), [0] * len(row["gt_boxes"])), "scene_token": "s"}
        _as_new_convention(row)
    read = open_infos(_write(tmp_path / "b.pkl", former))
    assert (read.flavour, read.convention) == ("bevformer", "mmdet3d_v0")
    index = index_of_infos(read.frames, tmp_path)
    assert index.scenes == ("s0", "s1") and (index.previous < 0).tolist() == [i in (0, 6) for i in range(12)]
    read = open_infos(_write(tmp_path / "c.pkl", det))
    assert (read.flavour, read.convention) == ("bevdet", "mmdet3d_v1")
    for ours, theirs in zip(read.frames, plain):
        torch.testing.assert_close(ours.boxes.size_m, theirs.boxes.size_m)
        torch.testing.assert_close(ours.boxes.yaw_rad.cos(), theirs.boxes.yaw_rad.cos(), atol=1e-6, rtol=0)
        torch.testing.assert_close(ours.boxes.yaw_rad.sin(), theirs.boxes.yaw_rad.sin(), atol=1e-6, rtol=0)


def test_contradictions_are_refused_and_silence_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = read_pickle(_old_path())
    mixed = copy.deepcopy(content)
    for row in mixed["infos"]:  # width and length exchanged, the old yaw kept
        row["gt_boxes"] = row["gt_boxes"][:, [0, 1, 2, 4, 3, 5, 6]]
    with pytest.raises(FileError, match="of no known convention.*3044 as mmdet3d_v1, 0 as.*give convention"):
        open_infos(_write(tmp_path / "a.pkl", mixed))
    silent = {"infos": [{**row, "gt_boxes": row["gt_boxes"][:0], "gt_names": row["gt_names"][:0],
                         "gt_velocity": row["gt_velocity"][:0], "num_lidar_pts": [], "num_radar_pts": []}
                        for row in content["infos"][:2]]}
    path = _write(tmp_path / "b.pkl", silent)
    with pytest.raises(ValueError, match="do not say which box convention.*do not tell"):
        open_infos(path)
    assert len(open_infos(path, "mmdet3d_v1").frames) == 2
    caplog.clear()
    assert open_infos(_old_path(), "mmdet3d_v1").convention == "mmdet3d_v1"  # the user's word counts, with a warning
    assert "is read as mmdet3d_v1, but its boxes look like mmdet3d_v0" in caplog.text


def test_a_new_file_with_old_boxes_is_refused(tmp_path: Path) -> None:
    content = read_pickle(next(real_data_dir("nuscenes_frame").glob("*.pkl")))
    for i in content["data_list"][0]["instances"]:
        boxes = boxes_from_array(torch.tensor([i["bbox_3d"]]), torch.zeros(1), "mmdet3d_v1", "center")
        i["bbox_3d"] = boxes_to_array(boxes, "mmdet3d_v0", "center")[0, :7].tolist()
    path = _write(tmp_path / "a.pkl", content)
    with pytest.raises(FileError, match="a 1.x file whose boxes are mmdet3d_v0.*give convention='mmdet3d_v0'"):
        open_infos(path)
    assert open_infos(path, "mmdet3d_v0").frames[0].boxes.size_m.shape == (68, 3)


def test_a_test_split_has_no_boxes(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if not k.startswith("gt_")} for row in read_pickle(_old_path())["infos"][:3]]
    infos = open_infos(_write(tmp_path / "a.pkl", {"infos": rows}), "mmdet3d_v0")
    assert [len(f.boxes) for f in infos.frames] == [0, 0, 0]


def test_the_real_frame_survives_export(tmp_path: Path) -> None:
    """What is written is, number by number, what mmdet3d's own converter wrote."""
    source = next(real_data_dir("nuscenes_frame").glob("*.pkl"))
    index = index_of_infos(open_infos(source).frames, source.parent)
    write_infos(tmp_path / "out.pkl", index, [0], "v1.0-mini")
    ours, theirs = (read_pickle(p) for p in (tmp_path / "out.pkl", source))
    assert ours["metainfo"].keys() == theirs["metainfo"].keys() and ours["metainfo"]["info_version"] == "1.1"
    a, b = ours["data_list"][0], theirs["data_list"][0]
    assert a["token"] == b["token"] and a["timestamp"] == pytest.approx(b["timestamp"], abs=1e-6)
    np.testing.assert_allclose(a["ego2global"], b["ego2global"], atol=1e-9)
    assert a["lidar_points"]["lidar_path"] == b["lidar_points"]["lidar_path"]
    for name, camera in b["images"].items():
        assert a["images"][name]["img_path"] == camera["img_path"]
        for key in ("cam2img", "cam2ego", "lidar2cam"):
            np.testing.assert_allclose(a["images"][name][key], camera[key], atol=1e-6)
    names = {v: k for k, v in theirs["metainfo"]["categories"].items()}
    kept = [i for i in b["instances"] if i["bbox_label_3d"] >= 0]
    assert len(kept) == len(a["instances"]) == 68
    for mine, other in zip(a["instances"], kept):
        assert ours["metainfo"]["categories"][names[other["bbox_label_3d"]]] == mine["bbox_label_3d"]
        np.testing.assert_allclose(mine["bbox_3d"][:6], other["bbox_3d"][:6], atol=1e-5)
        # Headings are flattened in two frames that lean by a degree against each other.
        assert np.cos(mine["bbox_3d"][6] - other["bbox_3d"][6]) > 1 - 1e-5
        np.testing.assert_allclose(mine["velocity"], other["velocity"], atol=0.05)
        assert mine["num_lidar_pts"] == other["num_lidar_pts"]


def test_tables_to_infos_and_back(synthetic_root: Path, tmp_path: Path) -> None:
    version, out = "v1.0-synthetic", tmp_path / "infos.pkl"
    arguments = ["--root", str(synthetic_root), "--version", version, "--split", "synthetic_val", "--out", str(out)]
    assert main(["infos", *arguments]) == 0
    tables = NuScenesDataset(str(synthetic_root), version, "synthetic_val", load_points=True)
    infos = InfoDataset(str(out), root=str(synthetic_root), load_points=True)
    assert infos.infos.convention == "mmdet3d_v1" and infos.infos.evidence.verdict() == "mmdet3d_v1"
    assert infos.tokens == tables.tokens
    for i in (0, 5):
        a, b = tables[i], infos[i]
        torch.testing.assert_close(a.images, b.images)
        torch.testing.assert_close(a.rig.cam_from_ref, b.rig.cam_from_ref, atol=1e-9, rtol=0)
        torch.testing.assert_close(a.boxes.center_m, b.boxes.center_m, atol=1e-4, rtol=0)
        torch.testing.assert_close(a.boxes.yaw_rad.cos(), b.boxes.yaw_rad.cos(), atol=2e-3, rtol=0)
        torch.testing.assert_close(a.points.xyz_m, b.points.xyz_m)
    rows = [load_index(synthetic_root, version), infos.index]
    chains = []
    for index, frames in zip(rows, (tables.frames, infos.frames)):
        begin, own = index.sweep_begin[frames[4]], index.sweep_of_frame[frames[4]]
        chains.append([index.sweep_file[row] for row in range(begin, own + 1)])
    assert chains[0] == chains[1] and len(chains[0]) == 9
