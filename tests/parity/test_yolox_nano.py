"""YOLOX-Nano from the official ONNX file against onnxruntime on that file, and on real pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import bev.models  # noqa: F401  (registers the parts)
from bev.data.detection2d import letterbox
from bev.engine import load_config
from bev.io.images import read_image
from bev.models.detectors import DenseDetector
from bev.models.detectors.yolox_weights import load_onnx
from bev.registry import MODELS
from bev.structures import ImageSample, collate_images
from tests.paths import REPO_ROOT, real_data_dir


@pytest.fixture(scope="module")
def weights() -> Path:
    pytest.importorskip("onnx")
    return real_data_dir("weights") / "yolox_nano.onnx"


@pytest.fixture(scope="module")
def model(weights: Path) -> DenseDetector:
    config = load_config(str(REPO_ROOT / "configs/yolox/yolox_nano_coco.py"))
    detector: DenseDetector = MODELS.build(config.model)
    load_onnx(detector, weights)
    return detector.eval()


def sample_of(path: Path) -> ImageSample:
    """A picture as the published pipeline prepares it."""
    image = read_image(path)
    boxed, matrix = letterbox(image, (416, 416))
    size = (image.shape[0], image.shape[1])
    return ImageSample(torch.from_numpy(boxed.transpose(2, 0, 1).copy()), torch.from_numpy(matrix), size, path.name)


def test_parameters(model: DenseDetector) -> None:
    """The published size is 0.91 M."""
    assert sum(p.numel() for p in model.parameters()) == 912159


def test_raw_outputs_equal_onnxruntime(model: DenseDetector, weights: Path) -> None:
    """Boxes within 1e-3 px, scores within 1e-5, on real pictures."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    for path in sorted((real_data_dir("coco_val80") / "val2017").glob("*.jpg"))[:3]:
        image = sample_of(path).image
        expected = torch.from_numpy(session.run(None, {"images": image.flip(0)[None].float().numpy()})[0])
        with torch.no_grad():
            found = model.head.predictions(model(image[None]))
        boxes = found.coder.decode(found.priors, expected[..., :4])
        assert float((found.boxes_px - boxes).abs().max()) <= 1e-3
        assert found.quality is not None
        assert float((found.quality.sigmoid() - expected[..., 4]).abs().max()) <= 1e-5
        assert float((found.scores - expected[..., 5:]).abs().max()) <= 1e-5


def test_average_precision(model: DenseDetector) -> None:
    """AP .297 and AP50 .455, as an onnxruntime pipeline of the same file has on these 80 pictures."""
    api = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    truth = api.COCO(str(real_data_dir("coco_val80") / "instances_val2017.json"))
    categories = sorted(truth.getCatIds())
    rows = []
    for number, picture in truth.imgs.items():
        batch = collate_images([sample_of(real_data_dir("coco_val80") / "val2017" / picture["file_name"])])
        with torch.no_grad():
            boxes = model.predict(batch)[0]
        corners = boxes.xyxy_px.double().numpy()
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
        for side, label, score in zip(sides.tolist(), boxes.label.tolist(), boxes.score.tolist()):
            rows.append({"image_id": number, "category_id": categories[label], "bbox": side, "score": score})
    scorer = COCOeval(truth, truth.loadRes(rows), "bbox")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    assert scorer.stats[0] == pytest.approx(0.297, abs=0.003)
    assert scorer.stats[1] == pytest.approx(0.455, abs=0.003)
