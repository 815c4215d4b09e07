"""``--precision`` on a detector of pictures with its data set: files that every runner takes, scores, refusals."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from bev.deploy import Exportable, ExportError, OnnxRunner  # noqa: E402
from bev.deploy.build import prepare_export  # noqa: E402
from bev.deploy.export import check_operators, example_arrays, write_onnx  # noqa: E402
from bev.deploy.finish import boxes3d_of  # noqa: E402
from bev.deploy.parity import compare_boxes  # noqa: E402
from bev.deploy.quantize import GraphFrames  # noqa: E402
from bev.deploy.quantize import score_graph  # noqa: E402
from bev.deploy.quantize import frames as frames_module  # noqa: E402
from bev.deploy.quantize.command import add_arguments, check_arguments, reduce_file  # noqa: E402
from bev.deploy.quantize.score import main_score  # noqa: E402
from bev.engine import load_config  # noqa: E402
from bev.io.checkpoint import save_checkpoint  # noqa: E402
from bev.models.detectors import FrameStream  # noqa: E402
from bev.registry import MODELS  # noqa: E402
from tests.engine.pictures import CONFIG, squares_config, write_squares  # noqa: E402
from tests.models import test_bevformer  # noqa: E402


class _Written:
    """A float32 graph of the squares' detector, with all that the command needs."""

    def __init__(self, folder: Path) -> None:
        root = write_squares(folder / "voc", count=4)
        self.options = [f"{name}_dataloader.dataset.pictures.root={root}" for name in ("train", "test")]
        torch.manual_seed(0)
        self.checkpoint = folder / "squares.pth"
        save_checkpoint({"state_dict": MODELS.build(squares_config(root).model).state_dict()}, self.checkpoint)
        self.example = prepare_export(CONFIG, self.checkpoint, size_px=(64, 64), options=self.options)
        self.graph = self.example.graph()
        self.path = folder / "squares.onnx"
        write_onnx(self.graph, self.path, metadata=self.example.metadata)

    def reduce(self, *arguments: str) -> Path:
        return reduce_file(self.parse(*arguments), self.path, self.example.model, example_arrays(self.graph))

    def parse(self, *arguments: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        known = dict(config=str(CONFIG), checkpoint=str(self.checkpoint), format="onnx", plugins=False)
        chosen = ["--frames", "2", "--budget-frames", "2", "--cfg-options", *self.options, *arguments]
        return parser.parse_args(chosen, argparse.Namespace(**known))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> _Written:
    return _Written(tmp_path_factory.mktemp("squares"))


def test_files_of_fewer_bits_run_as_the_other(written: _Written, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(CONFIG, written.options)
    exact = OnnxRunner(written.path, threads=1)
    test = GraphFrames(config, exact.facts, "test")
    assert len(test) == 4 and len(GraphFrames(config, exact.facts, "train", 2)) == 2
    inputs = next(iter(test))
    sizes = {"fp32": written.path.stat().st_size}
    table = written.path.with_name("s.json")
    few = ["--keep", "backbone.*", "neck.*", "head.network.c*", "--budget-drop", "1", "--sensitivity", str(table)]
    cpu = ["--placement", "onnxruntime"]
    for precision, more in (("fp16", []), ("int8", cpu), ("int8", []), ("mixed", few)):
        path = written.reduce("--precision", precision, *more)
        name = "int8_onnxruntime" if more is cpu else precision
        assert path.name == f"squares_{name}.onnx" and check_operators(onnx.load(str(path))) == []
        runner = OnnxRunner(path, threads=1)
        assert runner.facts == exact.facts and runner.more["precision"]["kind"] == precision
        assert runner.more["git"] == exact.more["git"]
        sizes[precision] = path.stat().st_size
        # Rows are by rank, which rounding may change: the sums may not differ by much.
        given, wanted = runner(inputs)["score"], exact(inputs)["score"]
        assert given.shape == wanted.shape and given.sum() == pytest.approx(wanted.sum(), rel=0.05)
        assert 0 <= main_score(score_graph(config, runner, test)) <= 1
    assert sizes["int8"] < sizes["fp16"] < sizes["fp32"] and table.with_suffix(".md").is_file()
    told = capsys.readouterr().out
    assert "int8: " in told and "relative squared error" in told and "drop of the score on training frames" in told


def test_what_is_refused(written: _Written, tmp_path: Path) -> None:
    for change, message in (
        (dict(format="aoti"), "not --format aoti"),
        (dict(plugins=True), "leave out --plugins"),
        (dict(budget_mb=1.0, budget_drop=0.1), "choose one"),
        (dict(placement="onnxruntime", precision="mixed"), "--placement onnxruntime is for"),
        (dict(placement="onnxruntime", format="tensorrt"), "--placement onnxruntime is for"),
    ):
        args = argparse.Namespace(**{**vars(written.parse("--precision", "int8")), **change})
        with pytest.raises(ExportError, match=message):
            check_arguments(args)
    check_arguments(written.parse("--precision", "fp32"))
    with pytest.raises(ExportError, match="are too few"):
        written.reduce("--precision", "mixed", "--budget-mb", "0.001")
    with pytest.raises(ExportError, match="no layer fits 'neck9"):
        written.reduce("--precision", "int8", "--keep", "neck9")
    config = load_config(CONFIG, [f"train_dataloader.dataset.pictures.root={tmp_path}", written.options[1]])
    with pytest.raises(ExportError, match="no train frames"):
        GraphFrames(config, OnnxRunner(written.path).facts, "train")


def test_a_memory_is_given_to_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """BEVFormer: frame by frame, the graph with these inputs finds what the detector's own stream finds."""
    model = test_bevformer.detector().eval()
    batches = test_bevformer.frames(count=3, batch=1)
    graph = Exportable.streaming(model, batches[0], {}).graph()
    monkeypatch.setattr(frames_module, "_dataset", lambda config, split: ({}, batches))
    monkeypatch.setattr(frames_module, "collate", lambda samples: replace(samples[0], boxes=None))
    stream, seen = FrameStream(model), 0
    for batch, inputs in GraphFrames(None, graph.facts, model=model).batches():
        assert list(inputs) == list(graph.facts.inputs) and inputs["state_continues"].item() == (seen > 0)
        with torch.no_grad():
            expected = stream.predict(batch)[0]
            found = graph(*(torch.from_numpy(np.asarray(inputs[name])) for name in graph.facts.inputs))
        boxes = boxes3d_of(dict(zip(graph.facts.outputs, found)), graph.facts.finish)[0]
        agreement = compare_boxes(expected, boxes)
        assert agreement.unmatched == 0 and agreement.count > 5
        seen += 1
    assert seen == 3


def test_scores_are_named() -> None:
    found: dict[str, Any] = {"mAP": 0.1, "nuscenes/NDS": 0.4}
    assert main_score(found) == 0.4 and main_score({"AP": 0.2, "AP50": 0.5}) == 0.2
    with pytest.raises(ValueError, match="neither NDS nor AP"):
        main_score({"mIoU": 0.3})
