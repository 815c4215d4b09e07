"""YOLOX-Nano from the official ONNX file against onnxruntime on that file, and on real pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import bev.models  # noqa: F401  (registers the parts)
from bev.engine import load_config
from bev.io.images import read_image
from bev.models.detectors import DenseDetector
from bev.models.detectors.yolox_weights import load_onnx
from bev.registry import MODELS
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


def letterboxed(path: Path, size: int = 416) -> np.ndarray:
    """(size, size, 3) uint8 RGB, scaled to fit into the upper left corner, 114 beside it."""
    image = read_image(path)
    scale = min(size / image.shape[0], size / image.shape[1])
    height, width = int(image.shape[0] * scale), int(image.shape[1] * scale)
    canvas = np.full((size, size, 3), 114, np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return canvas


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
        image = letterboxed(path)
        blob = image[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)
        expected = torch.from_numpy(session.run(None, {"images": blob})[0])
        with torch.no_grad():
            found = model.head.predictions(model(torch.from_numpy(image.transpose(2, 0, 1)[None].copy())))
        boxes = found.coder.decode(found.priors, expected[..., :4])
        assert float((found.boxes_px - boxes).abs().max()) <= 1e-3
        assert float((found.quality.sigmoid() - expected[..., 4]).abs().max()) <= 1e-5
        assert float((found.scores - expected[..., 5:]).abs().max()) <= 1e-5
