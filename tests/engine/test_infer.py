"""tools/infer.py: a rig that is not nuScenes', from its folder to detections and pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bev.engine import infer as door
from bev.engine import load_config
from bev.engine.infer import rig
from bev.io.checkpoint import save_checkpoint
from bev.registry import MODELS
from tests.data.rig_folder import CAMERAS, turn, write_rig
from tests.paths import REPO_ROOT
from tools import infer as tool

CONFIG = REPO_ROOT / "configs/bevdet/bevdet_tiny_synthetic.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained detector that finds something."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.pth"
    save_checkpoint({"state_dict": MODELS.build(load_config(CONFIG).model).state_dict()}, path)
    return path


def command(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    monkeypatch.setattr("sys.argv", ["infer.py", *map(str, arguments), "--device", "cpu"])
    return int(tool.main(tool.run, also=(ImportError, OSError, tool.RenderError)))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be drawn, instead of pictures."""
    calls: list[Any] = []
    monkeypatch.setattr(rig, "draw_results", lambda *arguments, **options: calls.append(arguments))
    return calls


def test_eleven_cameras_of_two_sizes(
    tmp_path: Path,
    checkpoint: Path,
    drawn: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, out = write_rig(tmp_path / "rig"), tmp_path / "out"
    assert command(monkeypatch, CONFIG, checkpoint, source, "--out", out, "--score-threshold", 0.0) == 0
    assert capsys.readouterr().out.strip().endswith(str(out / "detections.json"))
    document = json.loads((out / "detections.json").read_text())
    assert document["frame"] == "ego" and document["cameras"] == CAMERAS
    assert {name: [f["token"] for f in frames] for name, frames in document["scenes"].items()} == {
        "monday": ["monday0", "monday1", "monday2"],
        "tuesday": ["tuesday0"],
    }
    frame = document["scenes"]["monday"][1]
    assert frame["global_from_ego"] == turn(0.1, 3.0) and frame["boxes"]
    scores = [box["score"] for box in frame["boxes"]]
    assert scores == sorted(scores, reverse=True)
    frames, found, *_ = drawn[0]
    sample = frames[1]
    assert sample.images.shape == (11, 3, 120, 160) and sample.points is None  # tuesday has no points
    assert found["monday1"].frame == sample.boxes.frame == "ego"
    torch.testing.assert_close(found["monday1"].center_m[0], torch.tensor(frame["boxes"][0]["center_m"]).double())


def test_boxes_are_those_of_predict_taken_to_the_ego_frame(
    tmp_path: Path, checkpoint: Path, drawn: list[Any]
) -> None:
    """By hand: the LiDAR looks left and stands 1 m ahead (``calib.json``)."""
    source, cfg = write_rig(tmp_path / "rig"), load_config(CONFIG)
    model = door.build_detector(cfg, checkpoint, "cpu")
    path = rig.infer_rig(model, cfg, source, tmp_path / "out", score_threshold=0.05, device="cpu")
    from bev.structures import collate

    with torch.inference_mode():
        expected = model.predict(collate([rig.rig_frames(cfg, source)[2]]))[0]
    expected = expected[expected.score >= 0.05]
    boxes = json.loads(path.read_text())["scenes"]["monday"][2]["boxes"]
    assert len(boxes) == len(expected) > 0
    x, y, z = expected.center_m.double().unbind(1)
    in_ego = torch.stack([1 - y, x, z], 1)
    torch.testing.assert_close(torch.tensor([b["center_m"] for b in boxes]).double(), in_ego, atol=1e-4, rtol=0)
    headings = torch.tensor([b["yaw_rad"] for b in boxes]).double()
    turned = expected.yaw_rad.double() + torch.pi / 2
    torch.testing.assert_close(torch.cos(headings - turned), torch.ones(len(boxes)).double())


def test_without_lidar_a_detector_of_its_frame_gets_nuscenes_mounting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_rig(tmp_path / "rig")
    calibration = json.loads((source / "calib.json").read_text())
    del calibration["ego_from_lidar"]
    (source / "calib.json").write_text(json.dumps(calibration))
    frames = rig.rig_frames(load_config(CONFIG), source)
    assert "no ego_from_lidar" in caplog.text
    assert frames.index.ego_from_lidar[0, :3, 3].tolist() == pytest.approx([0.943713, 0, 1.84023])
    forward = frames.index.ego_from_lidar[0, :3, :3] @ [0, 1, 0]
    assert forward[0] > 0.999
    caplog.clear()
    ego = load_config(CONFIG, ["test_dataloader.dataset.frame=ego"])
    assert (rig.rig_frames(ego, source).index.ego_from_lidar[0] == torch.eye(4).numpy()).all()
    assert not caplog.text


def test_a_real_picture_is_drawn(tmp_path: Path, checkpoint: Path) -> None:
    pytest.importorskip("open3d")
    import cv2

    source = write_rig(tmp_path / "rig")
    poses = json.loads((source / "poses.json").read_text())
    (source / "poses.json").write_text(json.dumps({"tuesday": poses["tuesday"]}))
    try:
        path = door.infer(load_config(CONFIG), checkpoint, source, tmp_path / "out", score_threshold=0.99)
    except rig.RenderError as error:
        pytest.skip(f"no off-screen drawing here: {error}")
    picture = cv2.imread(str(next((path.parent / "pictures").glob("*.png"))))
    assert picture is not None and min(picture.shape[:2]) > 300 and picture.std() > 10


@pytest.mark.parametrize("damage", ["missing", "no_calib", "unreadable", "image_gone"])
def test_what_is_wrong_is_one_line(
    damage: str,
    tmp_path: Path,
    checkpoint: Path,
    drawn: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, message = write_rig(tmp_path / "rig"), ""
    if damage == "missing":
        source = tmp_path / "nowhere"
        message = "nowhere does not exist"
    elif damage == "no_calib":
        (source / "calib.json").unlink()
        message = "has no calib.json, but BEVDet detects in 3D and needs a rig's folder"
    elif damage == "unreadable":
        (source / "calib.json").write_text("{")
        message = "calib.json: "
    else:
        (source / "images/cam05/monday1.jpg").unlink()
        message = "images/cam05/monday1.jpg (frame monday1, cam05): cannot read the image"
    out = tmp_path / "out"
    assert command(monkeypatch, CONFIG, checkpoint, source, "--out", out) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not out.exists() and not drawn


def test_a_detector_of_pictures_wants_pictures(tmp_path: Path) -> None:
    cfg = load_config(REPO_ROOT / "configs/yolox/yolox_nano_coco.py")
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, tmp_path / "nano.pth")
    with pytest.raises(ValueError, match="DenseDetector detects in single pictures: name a picture"):
        door.infer(cfg, tmp_path / "nano.pth", write_rig(tmp_path / "rig"), tmp_path / "out")


def test_what_predicts_no_boxes_is_refused() -> None:
    from bev.models.detectors.bev_segmenter import BEVSegmenter

    class Maps(BEVSegmenter):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

    with pytest.raises(ValueError, match="Maps predicts no boxes"):
        door.kind_of(Maps())


def test_a_temporal_detector_goes_through_recordings_in_order(tmp_path: Path, drawn: list[Any]) -> None:
    """The same as by hand; a rig of other cameras than it has learned is refused in one line."""
    from bev.engine.adapter import DetectorAdapter
    from bev.structures import collate

    cfg, source = load_config(REPO_ROOT / "configs/bevformer/bevformer_tiny_synthetic.py"), write_rig(tmp_path / "rig")
    calibration = json.loads((source / "calib.json").read_text())
    calibration["cameras"] = {name: calibration["cameras"][name] for name in (*CAMERAS[:5], CAMERAS[8])}
    (source / "calib.json").write_text(json.dumps(calibration))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    path = rig.infer_rig(model, cfg, source, tmp_path / "out", score_threshold=0.0, device="cpu")
    adapter, frames = DetectorAdapter(model), rig.rig_frames(cfg, source)
    with torch.inference_mode():
        expected = [float(adapter.val_step(collate([frames[i]]))[0].score.max()) for i in range(3)]
        alone = float(model.predict(replace(collate([frames[2]]), previous=()))[0].score.max())
    scores = [frame["boxes"][0]["score"] for frame in json.loads(path.read_text())["scenes"]["monday"]]
    assert scores == pytest.approx(expected) and scores[2] != pytest.approx(alone, abs=1e-6)
    write_rig(tmp_path / "rig")  # eleven cameras again
    with pytest.raises(ValueError, match="cannot take frame monday0 of this rig.*learned for 6 cameras"):
        rig.infer_rig(model, cfg, source, tmp_path / "other", score_threshold=0.0, device="cpu")
    assert not (tmp_path / "other").exists()
