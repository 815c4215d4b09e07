"""Published weights, converted: the golden files' weights in a file of the authors' kind, read, converted for a model
with other conventions (box code, cameras' order, colours), and the authors' outputs come out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bev.io.checkpoint import load_weights
from bev.models.checkpoints import FAMILIES, Colours, Properties, convert, read_published
from bev.models.checkpoints.properties import CAFFE
from bev.models.coders import NMSFreeCoder
from bev.structures import CameraRig
from bev.structures.conventions import CAMERAS_BEVDET, CAMERAS_DETR3D, boxes_from_array
from tests.parity import test_bevdepth as bevdepth
from tests.parity import test_bevdet as bevdet
from tests.parity import test_bevformer as bevformer
from tests.parity import test_detr3d as detr3d
from tests.parity import test_petr as petr
from tests.parity import test_streampetr as streampetr
from tests.parity.golden import Golden
from tests.parity.query_heads import assert_boxes, rig_from
from tests.parity.test_mm_blocks import _resnet
from tests.paths import golden_cases

FEATURES, METRES = {"atol": 1e-3, "rtol": 1e-4}, {"atol": 2e-3, "rtol": 1e-5}
# Cameras of a data set that has them in another order than the authors.
ORDER = [CAMERAS_DETR3D.index(name) for name in CAMERAS_BEVDET]


def _cases(item: str, pattern: str = "*") -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", golden_cases(item, pattern), ids=lambda p: p.stem)


class _Part(nn.Module):
    """A detector of which only some parts are there."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def _through_a_file(
    folder: Path, weights: dict[str, Tensor], family: str, model: nn.Module, target: Properties
) -> tuple[str, ...]:
    """Save as authors do, with wrapper and optimizer; read, convert, load; the converter's notes."""
    path = folder / "published.pth"
    wrapped = {f"module.{name}": value for name, value in weights.items()}
    torch.save({"meta": {"epoch": 24}, "state_dict": wrapped, "optimizer": {"state": {0: torch.zeros(3)}}}, path)
    published = read_published(path)
    assert FAMILIES[family].fits(published.weights) or family == "bevdepth"  # of which the file has no head
    done = convert(
        published.weights, FAMILIES[family], model, FAMILIES[family].properties(published.weights), target
    )
    load_weights(model, done.weights, path)
    return done.notes


def _head(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"pts_bbox_head.{name}": value for name, value in weights.items()}


def _present(head: nn.Module) -> nn.Module:
    """A coder of the present box code in the place of the legacy one."""
    old = head.coder
    assert isinstance(old, NMSFreeCoder) and old.legacy_box_code
    head.coder = NMSFreeCoder(old.max_boxes, (*old.low_m, *old.high_m), frame=old.frame)
    return head.eval()


def _reordered(rig: CameraRig, features: list[Tensor]) -> tuple[CameraRig, list[Tensor]]:
    moved = CameraRig(
        rig.intrinsics[:, ORDER],
        rig.cam_from_ref[:, ORDER],
        rig.image_aug[:, ORDER],
        rig.image_size_px,
        CAMERAS_BEVDET,
        rig.timestamp_us[:, ORDER],
    )
    return moved, [feature[:, ORDER] for feature in features]


@_cases("detr3d_decoder")
@torch.no_grad()
def test_detr3d(path: Path, tmp_path: Path) -> None:
    golden = Golden(path)
    config = {**golden.config["head"]}
    head = detr3d._head(config)
    model, target = _Part(pts_bbox_head=_present(head)), Properties("mmdet3d_v1", "lidar", CAMERAS_BEVDET)
    notes = _through_a_file(tmp_path, _head(golden.group("weights")), "detr3d", model, target)
    layers = len(head.reg_branches)
    assert f"box code: mmdet3d_v0 -> mmdet3d_v1 in {2 * layers} tensors" in notes
    assert any(note.startswith(f"cameras: {2 * layers} tensors reordered") for note in notes)
    rig, features = _reordered(detr3d._rig(golden), golden.sequence("in.mlvl_feats"))
    outputs = head(features, rig)
    torch.testing.assert_close(outputs["cls_logits"], golden["out.all_cls_scores"], **FEATURES)
    for sample, boxes in enumerate(head.decode(outputs)):
        assert_boxes(boxes, golden.group(f"out.decode.{sample}"))


@_cases("bevformer_encoder")
@torch.no_grad()
def test_bevformer(path: Path, tmp_path: Path) -> None:
    golden = Golden(path)
    head = _present(bevformer._head(golden.config["head"]))
    model, target = _Part(pts_bbox_head=head), Properties("mmdet3d_v1", "lidar", CAMERAS_BEVDET)
    notes = _through_a_file(tmp_path, _head(golden.group("weights")), "bevformer", model, target)
    assert any(note.startswith("cameras: 1 tensors reordered") for note in notes)
    rig = rig_from(golden["in.lidar2img"][None], golden["in.img_shape"])
    rig, features = _reordered(rig, golden.sequence("in.frame1.mlvl_feats"))
    outputs = head(features, rig, bevformer._state(golden, 1))
    torch.testing.assert_close(outputs["cls_logits"], golden["out.frame1.all_cls_scores"], **FEATURES)
    (boxes,) = head.decode(outputs)
    assert_boxes(boxes, golden.group("out.frame1.decode"))


@_cases("petr_head")
@torch.no_grad()
def test_petr(path: Path, tmp_path: Path) -> None:
    golden = Golden(path)
    head = _present(petr._head(golden.config["head"]))
    model, target = _Part(pts_bbox_head=head), Properties("mmdet3d_v1", "lidar", CAMERAS_DETR3D)
    _through_a_file(tmp_path, _head(golden.group("weights")), "petr", model, target)
    outputs = petr._outputs(golden, head, rig_from(golden["in.lidar2img"], golden["in.pad_shape"]))
    for sample, boxes in enumerate(head.decode(outputs)):
        assert_boxes(boxes, golden.group(f"out.decode.{sample}"))


@_cases("streampetr_head")
@torch.no_grad()
def test_streampetr(path: Path, tmp_path: Path) -> None:
    """Its weights are of the present code; a model of the legacy one reads them after conversion."""
    golden = Golden(path)
    head = streampetr._head(golden.config["head"]).eval()
    old = head.coder
    head.coder = NMSFreeCoder(old.max_boxes, (*old.low_m, *old.high_m), frame=old.frame, legacy_box_code=True)
    weights = {**_head(golden.group("weights")), "img_roi_head.cls.weight": torch.zeros(3)}
    model = _Part(pts_bbox_head=head)
    notes = _through_a_file(tmp_path, weights, "streampetr", model, Properties("mmdet3d_v0", "lidar"))
    assert "box code: mmdet3d_v1 -> mmdet3d_v0 in 12 tensors" in notes
    rig = rig_from(golden["in.lidar2img"], golden["in.pad_shape"], golden["in.intrinsics"])
    for frame, outputs in enumerate(streampetr._run(golden, head, rig)):
        for sample, boxes in enumerate(head.decode(outputs)):
            assert_boxes(boxes, golden.group(f"out.frame{frame}.decode.{sample}"), "mmdet3d_v1")


@_cases("bevdet_lss")
@torch.no_grad()
def test_bevdet(path: Path, tmp_path: Path) -> None:
    """The whole detector behind the backbone, into the present box code: the boxes stay where they are."""
    golden = Golden(path)
    published, model = bevdet._detector(golden).eval(), bevdet._detector(golden).eval()
    coder = model.pts_bbox_head.coder
    assert coder.convention == "mmdet3d_v0"
    coder.convention = "mmdet3d_v1"
    target = Properties("mmdet3d_v1", "lidar")
    notes = _through_a_file(tmp_path, golden.group("weights"), "bevdet", model, target)
    assert "box code: mmdet3d_v0 -> mmdet3d_v1 in 24 tensors" in notes
    encoded = golden["out.bev_neck"]
    ours = model.pts_bbox_head.decode(model.pts_bbox_head(encoded))
    before = published.pts_bbox_head.decode(published.pts_bbox_head(encoded))
    for sample, (boxes, theirs) in enumerate(zip(ours, before)):
        expected = golden.group(f"out.get_bboxes.{sample}")
        assert len(boxes) == len(expected["scores"]) and torch.equal(boxes.label, theirs.label)
        order = expected["scores"].sort(descending=True, stable=True).indices
        array, label = expected["bboxes_bottom"][order], expected["labels"][order].long()
        for other in (theirs, boxes_from_array(array, label, "mmdet3d_v0", "bottom")):
            torch.testing.assert_close(boxes.center_m, other.center_m, atol=1e-3, rtol=1e-5)
            torch.testing.assert_close(boxes.size_m, other.size_m, atol=1e-3, rtol=1e-4)
            turn = boxes.yaw_rad - other.yaw_rad
            torch.testing.assert_close(turn.cos(), torch.ones_like(turn), atol=1e-6, rtol=0)


@_cases("bevdepth_depthnet")
@torch.no_grad()
def test_bevdepth(path: Path, tmp_path: Path) -> None:
    golden = Golden(path)
    config = golden.config
    view = _Part(depth_net=bevdepth.DepthNet(config["cin"], config["mid"], config["ctx"], config["D"], dropout=0.0))
    names = {f"model.backbone.depth_net.{name}": value for name, value in golden.group("weights").items()}
    model = _Part(img_view_transformer=view).eval()
    notes = _through_a_file(tmp_path, names, "bevdepth", model, Properties("mmdet3d_v1", "ego"))
    assert notes[0] == f"names: {len(names)} of {len(names)} changed"
    numbers = bevdepth.camera_numbers(bevdepth._rig(golden, augmented=False), golden["in.bda_mat"])
    result = view.depth_net.estimate(golden["in.x"], numbers)
    torch.testing.assert_close(result, golden["out.depth_context"], atol=1e-4, rtol=2e-5)


@_cases("mm_blocks", "blocks_*")
@torch.no_grad()
def test_colours_of_the_first_convolution(path: Path, tmp_path: Path) -> None:
    """A network of BGR images scaled by 1 reads RGB images scaled by ImageNet's deviations, and sees the same."""
    golden = Golden(path)
    net = _resnet(golden.config["resnet_caffe"]).eval()
    weights = {f"img_backbone.{name}": value for name, value in golden.group("weights.resnet_caffe").items()}
    scaled = Colours("rgb", CAFFE.mean[::-1], (58.395, 57.12, 57.375))
    model = _Part(img_backbone=net)
    done = convert(weights, FAMILIES["detr3d"], model, Properties(colours=CAFFE), Properties(colours=scaled))
    assert done.report.complete and "colours: BGR" in done.notes[-2]
    load_weights(model, done.weights, path)
    image = golden["in.resnet.x"].flip(1) / torch.tensor(scaled.std)[:, None, None]
    for level, output in enumerate(net(image)):
        expected = golden[f"out.resnet_caffe.eval.{level}"]
        torch.testing.assert_close(output, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)
