"""tools/visualize.py as a user types it."""

import json
import subprocess
import sys

import cv2
import pytest
import torch
from PIL import Image

from bev.data import NuScenesDataset
from bev.engine import load_config
from bev.evaluation.nuscenes.submission import (
    boxes_of,
    detections,
    read_submission,
    to_global,
    to_ref,
    write_submission,
)
from bev.registry import MODELS, ConfigError
from bev.viz.arguments import options_of, parse
from bev.viz.work import gather, write
from tests.paths import REPO_ROOT, real_data_dir


def _run(*arguments):
    command = [sys.executable, str(REPO_ROOT / "tools" / "visualize.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module", autouse=True)
def _open3d():
    pytest.importorskip("open3d")


@pytest.fixture(scope="module")
def submission(synthetic_root, tmp_path_factory):
    """Ground truth of the held-out scene as a submission."""
    frames = NuScenesDataset(synthetic_root, "v1.0-synthetic", "synthetic_val")
    results = {}
    for sample in (frames[i] for i in range(len(frames))):
        results[sample.token] = detections(sample.token, to_global(sample.boxes, sample.global_from_ref))
    path = tmp_path_factory.mktemp("results") / "results.json"
    write_submission(path, results)
    return path


def test_a_submission_read_back_gives_the_boxes(synthetic_root, submission):
    frames = NuScenesDataset(synthetic_root, "v1.0-synthetic", "synthetic_val")
    sample, pose = frames[2], frames.poses()[2]
    back = to_ref(boxes_of(read_submission(submission).results[sample.token]), pose, "lidar")
    distance = (sample.boxes.center_m[:, None] - back.center_m[None]).norm(dim=-1)
    match = distance.argmin(1)
    assert distance.min(1).values.max() < 1e-3
    assert (back.size_m[match] - sample.boxes.size_m).abs().max() < 1e-3
    assert (back.label[match] == sample.boxes.label).all()
    turn = (back.yaw_rad[match] - sample.boxes.yaw_rad).cos()
    assert turn.min() > 0.999


def test_results(synthetic_root, submission, tmp_path):
    where = ("--root", synthetic_root, "--version", "v1.0-synthetic", "--split", "synthetic_val")
    done = _run("--results", submission, *where, "--frames", 2, "--out-dir", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) == 2 and str(pictures[0]) in done.stdout
    assert cv2.imread(str(pictures[0])).std() > 10
    with pytest.raises(ConfigError, match="nosuch is not a frame of split synthetic_val"):
        _draw("--results", submission, *where, "--tokens", "nosuch", "--out-dir", tmp_path)
    where = (*where[:-1], "synthetic_train")
    with pytest.raises(ConfigError, match="results.json was not made for split synthetic_train"):
        _draw("--results", submission, *where, "--out-dir", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_checkpoint_draws_the_frame_asked_for(synthetic_root, tmp_path):
    """The last frame of the split, which a choice of one frame would not have."""
    config = load_config("configs/bevdet/bevdet_tiny_synthetic.py")
    model = MODELS.build(config.model)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, tmp_path / "random.pth")
    token = NuScenesDataset(synthetic_root, "v1.0-synthetic", "synthetic_val").tokens[-1]
    options = (f"test_dataloader.dataset.root={synthetic_root}", f"work_dir={tmp_path}")
    command = ("--config", config.filename, "--checkpoint", tmp_path / "random.pth", "--cfg-options", *options)
    _draw(*command, "--frames", 1, "--tokens", token, "--out-dir", tmp_path / "pictures")
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == [f"00005_{token}.png"]
    with pytest.raises(ConfigError, match="nosuch is not a frame of split synthetic_val"):
        _draw(*command, "--tokens", "nosuch")


def test_real_frame(tmp_path):
    _draw("--frame", real_data_dir("nuscenes_frame"), "--out", tmp_path / "out.png")
    picture = cv2.imread(str(tmp_path / "out.png"))
    assert picture.shape[1] > 1900 and picture.std() > 20


def _draw(*arguments):
    """The command within this process: starting another one costs more than drawing does."""
    args = parse(list(map(str, arguments)))
    return write(gather(args), args, options_of(args))


def test_a_scene_as_film_and_page(synthetic_root, submission, tmp_path):
    """From a tracking submission: every frame of the scene in each, with the map under it."""
    document = json.loads(submission.read_text())
    for boxes in document["results"].values():
        for number, box in enumerate(boxes):
            box |= {"tracking_id": f"object {number}", "tracking_name": box.pop("detection_name")}
            box |= {"tracking_score": box.pop("detection_score")}
    (tmp_path / "tracks.json").write_text(json.dumps(document))
    where = ("--root", synthetic_root, "--version", "v1.0-synthetic", "--split", "synthetic_val", "--map")
    paths = [tmp_path / "scene.gif", tmp_path / "scene.html"]
    for path in paths:
        assert _draw("--tracks", tmp_path / "tracks.json", *where, "--out", path, "--view", "free") == [path]
    with Image.open(paths[0]) as film:
        assert film.n_frames == 6
    page = paths[1].read_text()
    assert page.count('"token":') == 6 and '"tracks":[{"label"' in page and "drivable area (map)" in page
    with pytest.raises(ConfigError, match="has no scene nosuch"):
        _draw("--truth", *where, "--scene", "nosuch", "--out", tmp_path / "x.html")


def test_a_model_is_looked_into(synthetic_root, tmp_path):
    config = load_config("configs/bevdet/bevdet_tiny_synthetic.py")
    torch.save({"state_dict": MODELS.build(config.model).state_dict(), "meta": {}}, tmp_path / "random.pth")
    options = (f"test_dataloader.dataset.root={synthetic_root}", f"work_dir={tmp_path}")
    command = ("--config", config.filename, "--checkpoint", tmp_path / "random.pth", "--cfg-options", *options)
    looks = ("--show", "depth", "bev", "--query", -3, 15, "--frames", 1, "--out", tmp_path / "x.png")
    args = parse(list(map(str, (*command, *looks))))
    work = gather(args)
    sample = work.frames[work.positions[0]]
    overlay = work.overlay(sample)
    assert [raster.name for raster in overlay.ground] == ["length of BEV features"]
    assert overlay.camera_heat.value.shape[0] == 6 and sum(map(len, overlay.marks.weight)) > 0
    assert write(work, args, options_of(args)) == [tmp_path / "x.png"] and (tmp_path / "x.png").stat().st_size


def test_a_sheet_of_the_lidar_tools(synthetic_root, tmp_path):
    where = ("--root", synthetic_root, "--version", "v1.0-synthetic", "--split", "synthetic_val", "--frames", 1)
    (path,) = _draw("--truth", *where, "--lidar", "--out", tmp_path / "lidar.png")
    picture = cv2.imread(str(path))
    assert picture.shape[1] == 4 * 480 + 3 * 6 and picture[-480:].std() > 5
    assert all(picture[-470:-40, left : left + 480].std() > 3 for left in range(0, 1900, 486))


def test_mistakes_are_one_line():
    done = _run("--frame", "nosuch")
    assert done.returncode == 2 and "expected one info pickle" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--results", "nosuch.json"), "--results needs --root"),
        (("--config", "configs/bevdet/bevdet_tiny_synthetic.py"), "--config needs --checkpoint"),
        (("--frame", "x", "--score-threshold", "2"), "'2' is not a number in 0..1"),
        (("--frame", "x", "--score-threshold", "nan"), "'nan' is not a number in 0..1"),
        (("--frame", "x", "--frames", "0"), "'0' is not a positive whole number"),
        (("--frame", "x", "--frames=-3"), "'-3' is not a positive whole number"),
        (("--tracks", "x.json"), "--tracks needs --root"),
        (("--truth",), "--truth needs --root"),
        (("--frame", "x", "--range", "1"), "'1' is not a distance (m) in 5..500"),
        (("--truth", "--root", "x", "--lidar"), "--lidar draws one frame"),
        (("--frame", "x", "--fps", "0"), "'0' is not a rate in 0.1..120"),
        (("--frame", "x", "--out", "x.avi"), "--out: x.avi is none of .png .jpg .mp4 .gif .html .rrd"),
        (("--truth", "--root", "x", "--show", "bev"), "need --config and --checkpoint"),
        (("--truth", "--root", "x", "--query", "1", "2"), "need --config and --checkpoint"),
        (("--truth", "--root", "x", "--scene", "a", "--tokens", "b"), "two ways to choose frames"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
