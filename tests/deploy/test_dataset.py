"""A file behind a detector's doors finds what the detector finds; scores side by side see a file that is another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bev.deploy import Exportable, ExportError, write_onnx
from bev.deploy.dataset import DatasetReport, compare_on_dataset
from bev.deploy.graph_detector import GraphDetector
from bev.io.checkpoint import save_checkpoint
from bev.registry import MODELS
from bev.structures import ImageBatch
from tests.deploy.small import outspoken, settle, yolox
from tests.engine.pictures import squares_config, write_squares

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("pycocotools")


def test_scores_of_a_detector_and_of_its_file(tmp_path: Path) -> None:
    """Five pictures in batches of four through a file for one; then the same with a changed file."""
    config = squares_config(write_squares(tmp_path / "data", count=5))
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    settle(outspoken(model), images)
    checkpoint, path = tmp_path / "weights.pth", tmp_path / "squares.onnx"
    save_checkpoint({"state_dict": model.state_dict()}, checkpoint)
    write_onnx(Exportable(model, images[:1], None, {}).graph(), path)
    report = compare_on_dataset(config.copy(), checkpoint, path, tmp_path / "work")
    assert report.frames == 5 and report.boxes > 5 and report.unmatched == 0
    assert report.largest < 1e-6 and {"AP", "AP50"} <= set(report.torch) == set(report.graph)
    changed = onnx.load(str(path))
    for item in changed.graph.initializer:
        if len(item.dims) == 4:
            item.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(item) * np.float32(1.05), item.name))
    onnx.save(changed, str(path))
    assert compare_on_dataset(config.copy(), checkpoint, path, tmp_path / "work").unmatched > 0


def test_errors(tmp_path: Path) -> None:
    example = replace(yolox(), images=yolox().images[:1])
    write_onnx(example.graph(), tmp_path / "x.onnx")
    detector = GraphDetector(tmp_path / "x.onnx")
    batch = ImageBatch(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.eye(3)[None].double(), [(32, 32)], ["a"])
    with pytest.raises(ExportError, match=r"made for pictures of \(64, 96\) px, got \(32, 32\)"):
        detector.predict(batch)
    with pytest.raises(ExportError, match="has no losses"):
        detector.loss(batch)
    assert detector.target_counts(batch) == {} and next(detector.parameters()).numel() == 0


def test_largest_difference_of_scores() -> None:
    nan = float("nan")
    report = DatasetReport({"NDS": 0.4, "mAP": nan, "only": 1.0}, {"NDS": 0.39, "mAP": nan}, 3, 10, 0)
    assert report.largest == pytest.approx(0.01)
    assert "3 frames, 10 boxes" in report.text() and "-1.0e-02" in report.text()
