"""Graphs over folders and videos: the same detections as the detector's, and times of every stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from bev.deploy import ExportError, PicturePipeline, Pipeline
from bev.deploy.facts import WrongKind
from bev.deploy.loop import run_graph
from bev.deploy.parity import compare_boxes
from bev.deploy.pictures import picture_of
from bev.deploy.pipeline import _TorchRunner
from bev.deploy.stage_times import StageTimes
from bev.engine.infer.pictures import infer_pictures
from bev.io import FileError
from bev.structures import Boxes3D
from bev.structures.conventions import CAMERAS_DETR3D, CLASSES
from tests.data.rig_folder import ego_from_camera, turn
from tests.deploy import small

IMAGE = {"type": "ImageTransform", "size": (64, 96), "method": "area"}


def _runner(name: str, **more: Any) -> _TorchRunner:
    """A small detector's graph in torch itself; its files are held to it elsewhere."""
    torch.manual_seed(0)
    options = {} if name == "yolox" else {"batch": 1}
    runner = _TorchRunner(getattr(small, name)(**options).graph())
    runner.more = more
    return runner


@pytest.fixture(scope="module")
def rig_runner() -> _TorchRunner:
    return _runner("bevdet", image=IMAGE)


@pytest.fixture(scope="module")
def picture_runner() -> _TorchRunner:
    names = list("abcde")
    return _runner("yolox", picture={"size": [64, 96], "place": "center", "pad_value": 99, "classes": names})


def _given(monkeypatch: pytest.MonkeyPatch, runner: _TorchRunner) -> None:
    for module in ("pipeline", "pictures"):
        monkeypatch.setattr(f"bev.deploy.{module}.open_runner", lambda *arguments: runner)


def write_six_cameras(root: Path) -> Path:
    """Two recordings, of three frames and of one, that begin out of order of time."""
    rng, cameras = np.random.default_rng(0), {}
    for i, name in enumerate(CAMERAS_DETR3D):
        k = [[150, 0, 96], [0, 150, 64], [0, 0, 1]]
        place = ego_from_camera(2 * np.pi * i / 6)
        cameras[name] = {"intrinsics": k, "ego_from_camera": place, "size_px": [128, 192]}
        (root / "images" / name).mkdir(parents=True)
    poses: dict[str, list[Any]] = {"monday": [], "tuesday": []}
    for scene, count in (("monday", 3), ("tuesday", 1)):
        for f in range(count):
            token = f"{scene}{f}"
            poses[scene].append(
                {"token": token, "timestamp_us": 500_000 * f + 1, "global_from_ego": turn(0.1 * f, 3.0 * f)}
            )
            for name in cameras:
                picture = cv2.resize(rng.integers(0, 255, (8, 12, 3), np.uint8), (192, 128))
                cv2.imwrite(str(root / f"images/{name}/{token}.png"), picture)
    (root / "calib.json").write_text(json.dumps({"cameras": cameras, "ego_from_lidar": turn(np.pi / 2, 1.0)}))
    (root / "poses.json").write_text(json.dumps(poses))
    return root


def test_a_rigs_recordings(rig_runner: _TorchRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes of every frame, in the vehicle's frame, are those of a pipeline that is given the pictures."""
    from bev.data.folder import FolderDataset

    _given(monkeypatch, rig_runner)
    source = write_six_cameras(tmp_path / "rig")
    path, times = run_graph("graph.onnx", source, tmp_path / "out", score_threshold=0.0)
    found = json.loads(path.read_text())
    assert found["frame"] == "ego" and found["cameras"] == list(CAMERAS_DETR3D)
    assert {scene: len(rows) for scene, rows in found["scenes"].items()} == {"monday": 3, "tuesday": 1}
    frames, pipeline = FolderDataset(str(source), frame="lidar", cameras=CAMERAS_DETR3D), Pipeline("graph.onnx")
    for position, token in enumerate(frames.tokens):
        sample = frames[position]
        boxes = pipeline(list(sample.images.permute(0, 2, 3, 1).numpy()), sample.rig)
        ego_from_lidar = torch.tensor(turn(np.pi / 2, 1.0), dtype=torch.float64)
        rows = next(row for scene in found["scenes"].values() for row in scene if row["token"] == token)
        agreement = compare_boxes(boxes.transform(ego_from_lidar, "ego"), _boxes(rows["boxes"]))
        assert agreement.count > 3 and agreement.unmatched == 0, token
    stages = {row["stage"]: row for row in json.loads((tmp_path / "out/times.json").read_text())["stages"]}
    assert list(stages) == ["read", "calibrate", "network", "finish", "total"]
    assert all(row["frames"] == 3 and 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"] for row in stages.values())
    assert "p99" in times.text() and "3 frames after 1" in times.text()


def _boxes(rows: list[dict[str, Any]]) -> Boxes3D:
    column = {name: torch.tensor([row[name] for row in rows]) for name in ("center_m", "size_m", "yaw_rad", "score")}
    speed = torch.tensor([row["velocity_mps"] for row in rows])
    label = torch.tensor([CLASSES.index(row["label"]) for row in rows])
    return Boxes3D(column["center_m"], column["size_m"], column["yaw_rad"], speed, label, column["score"], "ego")


def test_some_frames(rig_runner: _TorchRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _given(monkeypatch, rig_runner)
    source = write_six_cameras(tmp_path / "rig")
    path, times = run_graph("graph.onnx", source, tmp_path / "out", limit=1)
    assert [row["token"] for row in json.loads(path.read_text())["scenes"]["monday"]] == ["monday0"]
    assert times.frames == 1 and "no times: 1 frames" in times.text()


def test_pictures_and_a_video(picture_runner: _TorchRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same JSON as the detector itself writes for the same pictures."""
    _given(monkeypatch, picture_runner)
    folder, rng = tmp_path / "pictures", np.random.default_rng(1)
    folder.mkdir()
    frames = [cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (150, 80)) for _ in range(3)]
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{i}.png"), frame)
    writer = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (150, 80))
    for frame in frames:
        writer.write(frame)
    writer.release()
    how = {"type": "PictureDataset", "size": (64, 96), "place": "center", "pad_value": 99}
    config = Config({"test_dataloader": {"dataset": {**how, "pictures": {"classes": list("abcde")}}}})
    model = picture_runner.graph.model
    for source in (folder, tmp_path / "film.mp4"):
        wanted = infer_pictures(model, config, source, tmp_path / "model", score_threshold=0.25, device="cpu")
        found, times = run_graph("graph.onnx", source, tmp_path / "graph")
        a, b = (json.loads(path.read_text())["pictures"] for path in (wanted, found))
        assert len(a) == len(b) == 3 and sum(len(row["boxes"]) for row in a) > 3
        for ours, theirs in zip(b, a):
            assert [box["name"] for box in ours["boxes"]] == [box["name"] for box in theirs["boxes"]]
            for x, y in zip(ours["boxes"], theirs["boxes"]):
                np.testing.assert_allclose(x["xyxy_px"], y["xyxy_px"], atol=0.05)
        assert [row["stage"] for row in times.rows()] == ["network", "finish", "total"]
    assert (tmp_path / "graph/film_detections.mp4").stat().st_size > 0
    direct = PicturePipeline("graph.onnx")
    boxes = direct(cv2.cvtColor(frames[0], cv2.COLOR_BGR2RGB))
    assert len(boxes) >= len(b[0]["boxes"]) and all(value > 0 for value in direct.times_ms.values())


def test_what_is_refused(
    rig_runner: _TorchRunner, picture_runner: _TorchRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileError, match="does not exist"):
        run_graph("graph.onnx", tmp_path / "none", tmp_path / "out")
    source = write_six_cameras(tmp_path / "rig")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    _given(monkeypatch, picture_runner)
    with pytest.raises(FileError, match="holds a rig, but graph.onnx is a graph of single pictures"):
        run_graph("graph.onnx", source, tmp_path / "out")
    with pytest.raises(ValueError, match="picture is float64"):
        PicturePipeline("graph.onnx")(np.zeros((8, 8, 3)))
    _given(monkeypatch, rig_runner)
    with pytest.raises(FileError, match="no calib.json: pictures, but graph.onnx is a graph of a rig's cameras"):
        run_graph("graph.onnx", tmp_path / "a.png", tmp_path / "out")
    with pytest.raises(WrongKind):
        PicturePipeline("graph.onnx")
    calibration = json.loads((source / "calib.json").read_text())
    calibration["cameras"].pop("CAM_BACK")
    (source / "calib.json").write_text(json.dumps(calibration))
    with pytest.raises(FileError, match=r"calib.json has no cameras \['CAM_BACK'\]"):
        run_graph("graph.onnx", source, tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(ExportError, match="is no graph"):
        from bev.deploy import open_runner

        open_runner("weights.pth")


def test_settings_of_pictures_follow_the_configuration() -> None:
    node = {"type": "PictureDataset", "size": (320, 320), "place": "center", "pad_value": 0}
    config = {"test_dataloader": {"dataset": {**node, "pictures": {"classes": ("cell",)}}}}
    assert picture_of(config, (416, 640)) == {
        "size": [416, 640], "place": "center", "pad_value": 0, "classes": ["cell"],
    }  # fmt: skip
    assert picture_of({}, (8, 8)) == {"size": [8, 8], "place": "corner", "pad_value": 114, "classes": []}


def test_quantiles() -> None:
    times = StageTimes(warm_up=2)
    for value in (1000, 1000, *range(1, 102)):
        times.add({"network": value})
    (row,) = times.rows()
    assert (row["frames"], row["p50_ms"], row["p90_ms"], row["p99_ms"], row["max_ms"]) == (101, 51, 91, 100, 101)
