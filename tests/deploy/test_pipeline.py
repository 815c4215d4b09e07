"""``Pipeline``: pictures and a rig in, the detector's boxes out, from a graph and from a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.deploy import ExportError, Pipeline, load_rig, save_rig, write_onnx, write_program
from bev.deploy.check import predict
from bev.deploy.parity import compare_boxes
from bev.io.checkpoint import save_checkpoint
from bev.registry import ConfigError
from bev.structures import CameraRig
from tests.deploy import small
from tests.models import test_lift_splat


def _original(rig: CameraRig) -> CameraRig:
    """The first frame's rig for pictures of twice the size."""
    parts = {n: getattr(rig, n)[0] for n in ("intrinsics", "cam_from_ref", "image_aug", "timestamp_us")}
    parts["intrinsics"] = torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)) @ parts["intrinsics"]
    height, width = rig.image_size_px
    return replace(rig, **parts, image_size_px=(2 * height, 2 * width))


@pytest.fixture(scope="module")
def example() -> Any:
    return small.bevdet(batch=1)


@pytest.fixture(scope="module")
def program(example: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector as an exported program whose pictures are halved first."""
    image = {"type": "ImageTransform", "size": (64, 96), "method": "area"}
    return write_program(example.graph(), tmp_path_factory.mktemp("p") / "bevdet.pt2", metadata={"image": image})


def test_pictures_to_boxes(example: Any, program: Path) -> None:
    """Twice enlarged pictures are halved back exactly, so the boxes are those of the network's own images."""
    pictures = [image.numpy().transpose(1, 2, 0).repeat(2, 0).repeat(2, 1) for image in example.images[0]]
    pipeline = Pipeline(program)
    rig = _original(example.rig)
    boxes = pipeline(pictures, rig)
    expected = predict(example)[0]
    agreement = compare_boxes(expected, boxes)
    assert agreement.count > 5 and agreement.unmatched == 0
    first = dict(pipeline.times_ms)
    (again, times), = pipeline.stream(iter([(pictures, rig)]))
    assert compare_boxes(boxes, again).unmatched == 0
    assert all(value > 0 for value in first.values()) and times["calibrate"] < first["calibrate"]
    moved = rig.augment_ref(torch.diag(torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64)))
    assert compare_boxes(boxes, pipeline(pictures, moved)).unmatched > 0, "the tables of the old rig were kept"


def test_checkpoint(example: Any, program: Path, tmp_path: Path) -> None:
    text = f"model = {_node()!r}\ntest_dataloader = dict(dataset=dict(image=dict(type='ImageTransform', size=(64, 96), "
    (tmp_path / "small.py").write_text(text + "method='area')))\n")
    save_checkpoint({"state_dict": example.model.state_dict()}, tmp_path / "small.pth")
    pictures = list(np.ascontiguousarray(example.images[0].numpy().transpose(0, 2, 3, 1).repeat(2, 1).repeat(2, 2)))
    rig = _original(example.rig)
    ours = Pipeline(tmp_path / "small.pth", tmp_path / "small.py")(pictures, rig)
    assert compare_boxes(Pipeline(program)(pictures, rig), ours).unmatched == 0
    with pytest.raises(ConfigError, match="needs its configuration"):
        Pipeline(tmp_path / "small.pth")


def _node() -> dict[str, Any]:
    """The configuration of the small lift-splat detector."""
    grid = test_lift_splat.GRID
    bins = {"type": "LinearDepthBins", "low_m": 1.0, "high_m": 21.0, "step_m": 2.0}
    view = {"type": "LiftSplat", "in_channels": 8, "out_channels": 8, "grid": grid, "stride_px": 8}
    head = {"type": "CenterHead", "in_channels": 8, "coder": {"type": "CenterCoder", "grid": grid}}
    return {
        "type": "BEVDet",
        "preprocess": {"type": "ImageNormalizer"},
        "img_backbone": {"type": "UnshuffleNet", "widths": (8, 8, 8, 8), "blocks": (1, 1, 1, 1)},
        "img_neck": {"type": "TopDownNeck", "in_channels": (8, 8, 8), "out_channels": 8},
        "img_view_transformer": {**view, "ray_channels": True, "depth_bins": bins},
        "bev_encoder": {"type": "BEVEncoder", "in_channels": 11, "widths": (8, 8), "blocks": (1,)},
        "pts_bbox_head": {**head, "shared_channels": 8, "head_channels": 8},
        "depth_loss_weight": 1.0,
    }


def test_what_is_refused(example: Any, program: Path, tmp_path: Path) -> None:
    pipeline, rig = Pipeline(program), _original(example.rig)
    picture = np.zeros((128, 192, 3), np.uint8)
    with pytest.raises(ValueError, match="5 pictures for 6 cameras"):
        pipeline([picture] * 5, rig)
    with pytest.raises(ValueError, match="CAM_FRONT_RIGHT: picture is float32"):
        pipeline([picture, picture.astype(np.float32), *[picture] * 4], rig)
    with pytest.raises(ValueError, match="made for cameras"):
        pipeline([picture] * 6, replace(rig, names=rig.names[::-1]))
    with pytest.raises(ExportError, match="does not exist"):
        Pipeline(tmp_path / "none.pt2")
    (tmp_path / "bad.pt2").write_bytes(b"nothing")
    with pytest.raises(ExportError, match="not an exported program"):
        Pipeline(tmp_path / "bad.pt2")


def test_rig_files(example: Any, tmp_path: Path) -> None:
    rig = _original(example.rig)
    save_rig(rig, tmp_path / "rig.npz")
    again = load_rig(tmp_path / "rig.npz")
    assert again.names == rig.names and again.image_size_px == rig.image_size_px
    assert torch.equal(again.img_from_ref, rig.img_from_ref)
    (tmp_path / "bad.npz").write_bytes(b"PK")
    with pytest.raises(ExportError, match="bad.npz is not a rig"):
        load_rig(tmp_path / "bad.npz")


def test_baked_calibration(example: Any, tmp_path: Path) -> None:
    """The graph needs images alone, and finds the same."""
    graph = example.graph(bake=True)
    assert graph.facts.inputs == ("images",) and graph.facts.baked
    path = write_program(graph, tmp_path / "baked.pt2")
    images = list(example.images[0].numpy().transpose(0, 2, 3, 1))
    rig = replace(_original(example.rig), image_size_px=example.rig.image_size_px, intrinsics=example.rig.intrinsics[0])
    found = Pipeline(path)(images, rig)
    assert compare_boxes(predict(example)[0], found).unmatched == 0


def test_onnx_metadata_keeps_the_image_transform(example: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    image = {"type": "ImageTransform", "size": (64, 96), "method": "area"}
    write_onnx(example.graph(bake=True), tmp_path / "b.onnx", metadata={"image": image})
    pictures = [i.numpy().transpose(1, 2, 0).repeat(2, 0).repeat(2, 1) for i in example.images[0]]
    found = Pipeline(tmp_path / "b.onnx", threads=1)(pictures, _original(example.rig))
    assert compare_boxes(predict(example)[0], found).unmatched == 0
