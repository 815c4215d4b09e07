"""tools/visualize.py as a user types it."""

import subprocess
import sys

import cv2
import pytest

from bev.data import NuScenesDataset
from bev.evaluation.nuscenes.submission import (
    boxes_of,
    detections,
    read_submission,
    to_global,
    to_ref,
    write_submission,
)
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
    wrong = _run("--results", submission, *where, "--tokens", "nosuch", "--out-dir", tmp_path)
    assert wrong.returncode == 2 and "nosuch is not a sample" in wrong.stderr


def test_real_frame(tmp_path):
    done = _run("--frame", real_data_dir("nuscenes_frame"), "--out", tmp_path / "out.png")
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(tmp_path / "out.png"))
    assert picture.shape[1] > 1900 and picture.std() > 20


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--results", "nosuch.json"), "--root"),
        (("--frame", "nosuch"), "expected one info pickle"),
        (("--config", "configs/bevdet/bevdet_tiny_synthetic.py"), "--checkpoint"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    done = _run(*arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
