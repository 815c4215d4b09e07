"""Exported graphs at published full size: parity with torch, nodes, bytes, milliseconds.

``python -m benchmarks.export --case bevdet_r50 [--weights FILE]``: one case a process, since each needs several GB.
Weights are random (with batch-norm statistics of the example) where none are given. The rig is a ring of six cameras.
Not measured here: engines of TensorRT, int8.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn

import bev.models  # noqa: F401  (registers the parts)
from benchmarks.harness import compare, report
from bev.deploy import Exportable, OnnxRunner, check_graph, write_onnx
from bev.deploy.build import as_batch, load_detector
from bev.deploy.export import example_arrays
from bev.engine import load_config
from bev.models.detectors import TemporalDetector
from bev.registry import MODELS
from bev.structures import CameraRig
from bev.structures.conventions import CAMERAS_BEVDET, CAMERAS_DETR3D

ROOT = Path(__file__).resolve().parents[1]
# Configuration, (H, W) of the network image, cameras in their order (none: pictures).
CASES: dict[str, tuple[str, tuple[int, int], tuple[str, ...]]] = {
    "yolox_nano": ("configs/yolox/yolox_nano_coco.py", (416, 416), ()),
    "retinanet_r50": ("configs/_base_/model/retinanet_r50.py", (800, 1344), ()),
    "fcos_r50": ("configs/_base_/model/fcos_r50.py", (800, 1344), ()),
    "atss_r50": ("configs/_base_/model/atss_r50.py", (800, 1344), ()),
    "gfl_r50": ("configs/_base_/model/gfl_r50.py", (800, 1344), ()),
    "detr3d_vovnet": ("configs/detr3d/detr3d_vovnet_nusc.py", (928, 1600), CAMERAS_DETR3D),
    "bevdet_r50": ("configs/bevdet/bevdet_r50_nusc.py", (256, 704), CAMERAS_BEVDET),
    "bevdet_tiny": ("configs/bevdet/bevdet_tiny_synthetic.py", (128, 352), CAMERAS_BEVDET),
    "bevformer_tiny": ("configs/bevformer/bevformer_tiny_nusc.py", (480, 800), CAMERAS_DETR3D),
}


def ring(names: tuple[str, ...], size_px: tuple[int, int]) -> CameraRig:
    """Cameras 1.5 m above the ground, looking outwards at equal angles, with nuScenes' field of view."""
    height, width = size_px
    count = len(names)
    focal = 0.79 * width
    lens = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(1, count, 1, 1)
    for i in range(count):
        angle = torch.tensor(2 * torch.pi * i / count, dtype=torch.float64)
        forward = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)])
        right = torch.stack([angle.sin(), -angle.cos(), torch.zeros_like(angle)])
        poses[0, i, :3, :3] = torch.stack([right, torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64), forward])
    lenses, plain = lens.repeat(1, count, 1, 1), torch.eye(3, dtype=torch.float64).repeat(1, count, 1, 1)
    return CameraRig(lenses, poses, plain, size_px, names, torch.zeros(1, count, dtype=torch.int64))


def settle(model: nn.Module, *inputs: Any) -> nn.Module:
    """Batch-norm statistics of the example: a fresh network's signals would vanish or explode in many layers."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.train()
            part.momentum = 1.0
    with torch.no_grad():
        model(*inputs)
    return model.eval()


def example_of(case: str, weights: str | None) -> Exportable:
    """The case's detector and one frame of smooth noise."""
    path, size, names = CASES[case]
    config = load_config(ROOT / path)
    torch.manual_seed(0)
    coarse = torch.rand(max(len(names), 1), 3, size[0] // 16, size[1] // 16)
    pictures = (nn.functional.interpolate(coarse, size, mode="bilinear") * 255).to(torch.uint8)
    images = pictures[None] if names else pictures
    rig = ring(names, size) if names else None
    if weights is not None:
        model = load_detector(config, weights)
    else:
        model = MODELS.build(config.model).eval()
        model = settle(model, images) if rig is None else settle(model, images, rig)
    if isinstance(model, TemporalDetector) and model.remembers:
        assert rig is not None
        return Exportable.streaming(model, as_batch(images, rig), {})
    return Exportable(model, images, rig, {})


def run(case: str, weights: str | None, runs: int, threads: int) -> None:
    """Export, check, time, print."""
    example = example_of(case, weights)
    graph = example.graph(outputs="both")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{case}.onnx"
        exported = write_onnx(graph, path)
        result = check_graph(example, graph, path)
        kinds = Counter(node.op_type for node in exported.model_proto.graph.node)
        size_mb = round(path.stat().st_size / 1e6, 1)
        del exported
        runner, inputs, tensors = OnnxRunner(path, threads), example_arrays(graph), list(graph.example.values())
        with torch.inference_mode():
            baselines = {"torch": lambda: graph(*tensors)}
            cases = compare(f"{case}: onnxruntime fp32", lambda: runner(inputs), baselines, runs)
    print(result.text())
    facts = {
        "nodes": sum(kinds.values()),
        "operators": dict(kinds.most_common(12)),
        "size_mb": size_mb,
        "max_relative": {d.name: d.relative for d in result.outputs},
        "boxes": [{"count": b.count, "unmatched": b.unmatched} for b in result.boxes],
        "passed": result.passed,
    }
    report("export", threads, [{**row, **facts} for row in cases])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=tuple(CASES), default="bevdet_tiny")
    parser.add_argument("--weights", help="checkpoint, or the official ONNX file of YOLOX")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few runs")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run(args.case, args.weights, 3 if args.quick else 7, args.threads)
