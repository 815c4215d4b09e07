"""2D detectors through the engine: training, resuming, testing, pictures in the work folder, inference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from bev.engine import load_config, prepare
from bev.engine import test as score
from bev.engine import train
from bev.engine.infer import infer
from bev.engine.infer.pictures import infer_pictures
from bev.engine.runner import Runner
from bev.io import FileError
from bev.io.checkpoint import load_checkpoint, load_weights, weights_of
from bev.models.heads.dense import SwitchCriterion
from bev.registry import MODELS, ConfigError
from bev.structures import Boxes2D, ImageBatch
from tests.engine.pictures import squares_config, write_squares
from tests.paths import REPO_ROOT

pytest.importorskip("pycocotools")
PICTURES = {
    *("train_batch0_labels.jpg", "val_batch0_labels.jpg", "val_batch0_predictions.jpg"),
    *("precision_recall.png", "f1.png", "confusion_matrix.png"),
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight pictures, one of them damaged."""
    return write_squares(tmp_path_factory.mktemp("squares") / "data", broken=True)


@pytest.fixture(scope="module")
def trained(squares: Path) -> Path:
    """A work folder of a run of four steps, two epochs."""
    pytest.importorskip("matplotlib")
    cfg = squares_config(squares)
    assert train(prepare(cfg, str(squares.parent / "work"))) == 0
    return squares.parent / "work"


def test_a_run_leaves_scores_and_pictures(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "scalars.jsonl").read_text().splitlines()]
    validated = [row for row in rows if row["mode"] == "val"]
    assert {"AP", "AP50", "AP50/red", "AR100"} <= set(validated[-1])
    found = {path.name for path in (trained / "pictures").iterdir()}
    assert PICTURES <= found
    for name in PICTURES:
        picture = cv2.imread(str(trained / "pictures" / name))
        assert picture is not None and picture.std() > 5


def test_a_run_resumes_bit_for_bit(squares: Path, trained: Path, tmp_path: Path) -> None:
    """Mosaics, sizes, the closing of the mosaic and the criterion's epoch are those of the unbroken run."""
    runner = Runner(prepare(squares_config(squares), str(tmp_path)))
    _stop_after(runner, 3)
    runner.train()
    assert load_checkpoint(tmp_path / "step_3.pth")["meta"]["step"] == 3
    assert train(prepare(squares_config(squares), str(tmp_path), resume=True)) == 0
    whole, resumed = (load_checkpoint(folder / "step_4.pth") for folder in (trained, tmp_path))
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name


def _stop_after(runner: Runner, step: int) -> None:
    class Stop(Hook):
        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            runner.train_loop.stop_training = batch_idx + 1 == step

    runner.register_hook(Stop())


def test_a_head_for_other_classes_is_refused(squares: Path, tmp_path: Path) -> None:
    cfg = squares_config(squares)
    cfg.model.head.network.num_classes = 3
    with pytest.raises(ConfigError, match="num_classes' is 3, but the pictures of 'train_dataloader' have 2 classes"):
        Runner(prepare(cfg, str(tmp_path))).train()


def test_names_come_from_the_checkpoint_where_the_configuration_has_none(
    squares: Path, trained: Path, tmp_path: Path
) -> None:
    cfg = squares_config(squares)
    for stage in ("train", "val", "test"):
        cfg[f"{stage}_dataloader"].dataset.pictures.classes = None
    out = infer(cfg, trained, squares / "JPEGImages/p1.png", tmp_path, score_threshold=0.5)
    assert json.loads(out.read_text())["classes"] == ["red", "blue"]


def test_the_criterion_is_told_its_epoch(squares: Path, tmp_path: Path) -> None:
    runner = Runner(prepare(squares_config(squares), str(tmp_path)))
    seen = []

    def look(batch: Any, factors: Any = None, inner: Any = runner.detector.loss) -> Any:
        (criterion,) = [m for m in runner.detector.modules() if isinstance(m, SwitchCriterion)]
        terms = inner(batch, factors)
        seen.append((criterion.epoch, "loss_l1" in terms))
        return terms

    runner.detector.loss = look  # type: ignore[method-assign]
    runner.train()
    assert seen == [(0, False), (0, False), (1, True), (1, True)]


def test_testing_writes_coco_results(squares: Path, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "results.json"
    scores = score(prepare(squares_config(squares), str(tmp_path / "w")), str(trained), out=str(out))
    assert 0 <= scores["AP50"] <= 1
    assert {row["category_id"] for row in json.loads(out.read_text())} <= {1, 2}
    annotations = json.loads((tmp_path / "results_annotations.json").read_text())
    assert len(annotations["images"]) == 8 and annotations["categories"][0] == {"id": 1, "name": "red"}
    assert {"test_batch0_predictions.jpg", "f1.png"} <= {p.name for p in (tmp_path / "w/pictures").iterdir()}


def test_testing_looks_at_several_views(squares: Path, trained: Path, tmp_path: Path) -> None:
    """Every box of the result is in the file's px and its picture; a single view is the plain test."""
    pytest.importorskip("matplotlib")
    plain: dict[str, Any] = {}
    views: dict[str, Any] = {}
    options: dict[str, Any] = dict(flip=True, scales=[1.0, 1.5], tile_px=48, max_boxes=7)
    for given, kept in ((None, plain), (options, views), (dict(max_boxes=300, merge="nms", threshold=1.0), {})):
        cfg = squares_config(squares)
        cfg.custom_hooks = []
        cfg.model.head.decoder.update(score_threshold=1e-5, max_boxes=20)
        cfg.test_dataloader.dataset.max_samples = 3
        if given is not None:
            cfg.test_cfg = dict(views=given)
        cfg = prepare(cfg, str(tmp_path / "w"))
        score(cfg, str(trained), on_result=lambda batch, found: kept.update(zip(batch.tokens, found)))
        if given is not None and not given.get("flip"):
            assert {t: len(b) for t, b in kept.items()} == {t: len(b) for t, b in plain.items()}
            assert all(torch.equal(kept[t].xyxy_px, plain[t].xyxy_px) for t in plain)
    assert set(views) == set(plain) and any(len(boxes) for boxes in views.values())
    for boxes in views.values():
        assert len(boxes) <= 7 and bool((boxes.score[:-1] >= boxes.score[1:]).all())
        assert bool((boxes.xyxy_px >= 0).all()) and bool((boxes.xyxy_px <= 64).all())


def test_views_need_pictures(tmp_path: Path) -> None:
    cfg = load_config(REPO_ROOT / "tests/engine/toy_config.py")
    cfg.test_cfg = dict(views=dict(flip=True))
    with pytest.raises(ConfigError, match="test_cfg.views.*PictureDataset"):
        Runner(prepare(cfg, str(tmp_path))).test()


@pytest.fixture(scope="module")
def model(squares: Path, trained: Path) -> torch.nn.Module:
    detector = MODELS.build(squares_config(squares).model)
    detector.head.decoder.score_threshold = 1e-5  # four steps have taught it little
    path = trained / "step_4.pth"
    load_weights(detector, weights_of(load_checkpoint(path), path), path)
    return detector.eval()


def test_inference_on_a_folder(model: torch.nn.Module, squares: Path, tmp_path: Path) -> None:
    """Every picture gets its row and drawing, a damaged one its error; a second run does not look at drawings."""
    cfg, source = squares_config(squares), tmp_path / "in"
    (source / "more").mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 256, (50, 100, 3), np.uint8)
    for name in ("a.png", "more/b.jpg"):
        assert cv2.imwrite(str(source / name), picture)
    (source / "bad.jpg").write_bytes(b"\xff\xd8 no picture")
    for _ in range(2):
        path = infer_pictures(model, cfg, source, source / "out", score_threshold=0.0, device="cpu")
        content = json.loads(path.read_text())
        assert [row["file"] for row in content["pictures"]] == ["a.png", "bad.jpg", "more/b.jpg"]
    assert content["classes"] == ["red", "blue"] and "bad.jpg" in content["pictures"][1]["error"]
    boxes = content["pictures"][0]["boxes"]
    assert boxes and content["pictures"][0]["size_px"] == [50, 100]
    for box in boxes:
        left, top, right, bottom = box["xyxy_px"]
        assert 0 <= left <= right <= 100 and 0 <= top <= bottom <= 50 and box["name"] in ("red", "blue")
    assert content["pictures"][0]["drawing"] == "a.jpg"
    assert (source / "out/a.jpg").is_file() and (source / "out/more/b.jpg").is_file()
    options: Any = dict(score_threshold=0.0, device="cpu", views=dict(tile_px=32, flip=True, batch_size=3))
    tiled = json.loads(infer_pictures(model, cfg, source, tmp_path / "tiles", **options).read_text())["pictures"]
    for left, top, right, bottom in (box["xyxy_px"] for row in tiled for box in row.get("boxes", ())):
        assert 0 <= left <= right <= 100 and 0 <= top <= bottom <= 50
    assert tiled[0]["boxes"] and tiled[0]["boxes"] != boxes
    none = infer_pictures(model, cfg, source / "a.png", tmp_path / "o", score_threshold=1.0, device="cpu")
    assert json.loads(none.read_text())["pictures"][0]["boxes"] == []


def test_inference_on_a_video(model: torch.nn.Module, squares: Path, tmp_path: Path) -> None:
    source = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG video")
    for number in range(3):
        writer.write(np.full((64, 96, 3), 50 * number, np.uint8))
    writer.release()
    path = infer_pictures(model, squares_config(squares), source, tmp_path / "o", score_threshold=0.2, device="cpu")
    rows = json.loads(path.read_text())["pictures"]
    assert [(row["frame"], row["time_s"]) for row in rows] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert (tmp_path / "o/v_detections.mp4").stat().st_size > 0


class Passing(torch.nn.Module):
    """Finds one object that moves 6 px a picture, weakly in the third one, and something else in the fourth one."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def predict(self, batch: ImageBatch) -> list[Boxes2D]:
        left, score = 10.0 + 6 * self.count, (0.9, 0.9, 0.15, 0.9, 0.9)[self.count]
        boxes = [[left, 10.0, left + 30, 40.0]] + [[70.0, 40.0, 90.0, 60.0]] * (self.count == 3)
        self.count += 1
        count = len(boxes)
        return [Boxes2D(torch.tensor(boxes), torch.zeros(count, dtype=torch.long), torch.tensor([score, 0.9][:count]))]


def test_objects_are_followed_through_a_video(squares: Path, tmp_path: Path) -> None:
    source = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG video")
    for _ in range(5):
        writer.write(np.zeros((64, 96, 3), np.uint8))
    writer.release()
    cfg, how = squares_config(squares), {"score_threshold": 0.5, "device": "cpu", "follow": True}
    path = infer_pictures(Passing(), cfg, source, tmp_path / "o", **how)
    rows = json.loads(path.read_text())["pictures"]
    # The weak box continues its object though it is below the threshold; what is seen once is no object.
    assert [[box["track"] for box in row["boxes"]] for row in rows] == [[1]] * 5
    assert [row["boxes"][0]["score"] for row in rows] == [0.9, 0.9, 0.15, 0.9, 0.9]
    with pytest.raises(FileError, match="followed through videos"):
        infer_pictures(Passing(), cfg, squares, tmp_path / "o", **how)


def test_inference_names_what_it_cannot_use(model: torch.nn.Module, squares: Path, tmp_path: Path) -> None:
    cfg = squares_config(squares)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    for name, message in (("absent", "no such picture"), ("empty", "no pictures"), ("text.mp4", "not a video")):
        with pytest.raises(FileError, match=message):
            infer_pictures(model, cfg, tmp_path / name, tmp_path / "o", score_threshold=0.2, device="cpu")
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg.pop(key)
    with pytest.raises(ConfigError, match="test_dataloader.dataset"):
        infer_pictures(model, cfg, squares, tmp_path / "o", score_threshold=0.2, device="cpu")
