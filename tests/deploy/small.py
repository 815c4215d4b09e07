"""Small detectors of every family, with the examples that they are exported with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import bev.models  # noqa: F401  (registers the parts)
from bev.deploy import Exportable
from bev.deploy.build import as_batch
from bev.engine import load_config
from bev.models.backbones import BEVResNet, ResNet, SwinTransformer
from bev.models.backbones.vovnet import VoVNet
from bev.models.deform_conv import DeformConv2d, ModulatedDeformConv2d
from bev.models.detectors import BEVSegmenter, DenseDetector, FrameStream, TemporalDetector
from bev.models.detectors.streaming import StreamingDetector
from bev.models.necks import FPN, LSSFPN
from bev.models.preprocess import ImageNormalizer
from bev.models.view import BEVDepthView, DepthNet
from bev.models.view.bevdet_depth_view import BEVDetDepthView
from bev.registry import MODELS
from bev.structures.conventions import CAMERAS_DETR3D
from projects.petr.tests import test_petr
from projects.streampetr.tests import test_streampetr
from tests.models import (
    test_bevformer,
    test_dense,
    test_detr3d,
    test_detr3d_seeded,
    test_lift_splat,
    test_lifted_queries,
    test_map_proposals,
    test_published_lift,
)
from tests.models.rigs import random_batch
from tests.paths import REPO_ROOT


def settle(model: nn.Module, *inputs: Any) -> nn.Module:
    """Statistics of batch norms from a pass over the example: signals keep their size, and folding has work to do."""
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.momentum = 0.9
    with torch.no_grad():
        model.train()(*inputs)
    return model.eval()


def yolox() -> Exportable:
    """Two pictures of 64 x 96 px."""
    torch.manual_seed(0)
    norm = {"type": "BN"}
    towers = {"in_channels": 16, "feat_channels": 16, "strides": (8, 16, 32), "quality": "box", "norm": norm}
    node = {
        "type": "DenseDetector",
        "preprocess": {"type": "ImageNormalizer", "channel_order": "bgr"},
        "backbone": {"type": "CSPDarknet", "depth": 0.33, "width": 0.125},
        "neck": {"type": "YOLOXPAFPN", "in_channels": (32, 64, 128), "depth": 0.33, "out_channels": 16},
        "head": {
            "type": "DenseHead",
            "network": {"type": "LevelTowers", "num_classes": 5, **towers},
            "priors": {"type": "PointPriors", "strides": (8, 16, 32), "offset": 0.0},
            "box_coder": {"type": "StrideBoxCoder"},
            "criterion": {"type": "ObjectnessCriterion", "assigner": {"type": "SimOTAAssigner"}},
            "decoder": {"type": "DenseDecoder", "score_threshold": 0.2, "single_label": True, "max_boxes": None},
        },
    }
    model: DenseDetector = MODELS.build(node)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Exportable(settle(outspoken(model), images), images, None, {})


def outspoken(model: DenseDetector) -> DenseDetector:
    """A YOLOX whose fresh head finds something."""
    torch.manual_seed(0)
    for towers_part in (model.head.network.conv_cls, model.head.network.conv_quality):
        for conv in towers_part:
            nn.init.normal_(conv.weight, std=0.3)
            nn.init.zeros_(conv.bias)
    return model


def _rigged(model: nn.Module, batch: int) -> Exportable:
    frames = random_batch(batch)
    rig = replace(frames.rig, names=CAMERAS_DETR3D)
    return Exportable(settle(model, frames.images, rig), frames.images, rig, {})


def detr3d(batch: int = 2) -> Exportable:
    """Two decoder layers, 30 queries, six cameras of 64 x 96 px."""
    return _rigged(test_detr3d._detector(), batch)


def bevdet(batch: int = 2) -> Exportable:
    """A lift-splat detector on a small grid."""
    model = test_lift_splat._detector()
    return _rigged(model, batch)


def detr3d_dcn() -> Exportable:
    """With deformable convolutions (DCNv2) in the last stage, which read where their offsets say."""
    model = test_detr3d._detector()
    model.img_backbone = ResNet(
        50,
        base_channels=8,
        out_indices=(1, 2),
        num_stages=3,
        stage_blocks=(1, 1, 1),
        dcn_stages=(False, False, True),
        norm_eval=True,
    )
    model.img_neck = FPN(model.img_backbone.out_channels, 16, 2)
    return _rigged(_moved(model), 2)


def detr3d_vovnet() -> Exportable:
    """A narrow VoVNet in the place of the ResNet."""
    counts = {"layer_per_block": 2, "block_per_stage": (1, 1, 1, 1)}
    shape = {"stem": (8, 8, 16), "stage_conv_ch": (8, 8, 8, 8), "stage_out_ch": (16, 16, 24, 32), **counts}
    return _with_backbone(VoVNet(shape, out_indices=(1, 2)))


def detr3d_swin() -> Exportable:
    """A narrow Swin."""
    return _with_backbone(SwinTransformer(8, (2, 2, 2), (1, 2, 2), window=4, out_indices=(1, 2)))


def _with_backbone(backbone: nn.Module) -> Exportable:
    model = test_detr3d._detector()
    model.img_backbone, model.img_neck = backbone, FPN(backbone.out_channels, 16, 2)  # type: ignore[arg-type]
    return _rigged(model, 2)


def detr3d_seeded() -> Exportable:
    """Queries that begin at peaks of the image heatmaps."""
    return _rigged(test_detr3d_seeded._detector(), 2)


def _moved(model: nn.Module) -> nn.Module:
    """Offsets of deformable convolutions away from zero, where they begin."""
    parts = [part for part in model.modules() if isinstance(part, (DeformConv2d, ModulatedDeformConv2d))]
    assert parts
    for part in parts:
        nn.init.normal_(part.conv_offset.weight, std=0.3)
    return model


def bevformer() -> Exportable:
    """Both frames: two recordings after their first frame, on different ways."""
    return _second_frame(test_bevformer.detector())


def bevformer_lifted() -> Exportable:
    """The same whose queries begin with lifted image features."""
    return _second_frame(test_lifted_queries.detector())


def bevformer_proposals() -> Exportable:
    """Lifted queries, and others that begin at peaks of the map in finer cells."""
    return _second_frame(test_map_proposals.detector(fine=True))


def streampetr() -> Exportable:
    """Both frames, as :func:`bevformer`."""
    return _second_frame(test_streampetr._detector())


def _second_frame(model: StreamingDetector) -> Exportable:
    model, (first, second) = model.eval(), test_bevformer.frames()
    rig = replace(first.rig, names=CAMERAS_DETR3D)
    stream = FrameStream(model)
    with torch.no_grad():
        stream.forward(replace(first, rig=rig))
        state = stream.enter(replace(second, rig=rig))
    return Exportable(model, second.images, rig, {}, dict(state))


def bevdet_published() -> Exportable:
    """BEVDet of the first generation: tasks, each with its own suppression."""
    return _rigged(test_published_lift._detector(), 2)


def bevdet4d() -> Exportable:
    """Two frames on their way: the earlier grid is resampled into the present pose."""
    return _on_its_way(test_published_lift._detector(1, "warp"))


def bevdepth() -> Exportable:
    """As :func:`bevdet4d`, with a depth network that is told of the cameras and has a deformable convolution."""
    model = test_published_lift._detector(1, "lift")
    bins, grid, size_px = test_published_lift.BINS, test_published_lift.GRID, test_published_lift.SIZE_PX
    net = DepthNet(6, 8, 5, len(bins), dropout=0.0)
    model.img_view_transformer = BEVDepthView(net, 5, bins, grid, 16, size_px)
    return _on_its_way(_moved(model))


def bevdet_depth() -> Exportable:
    """BEVDet of the first generation with a camera-aware depth branch of its own (BEVDet's BEVDepth)."""
    model = test_published_lift._detector()
    bins, grid, size_px = test_published_lift.BINS, test_published_lift.GRID, test_published_lift.SIZE_PX
    model.img_view_transformer = BEVDetDepthView(6, 5, bins, grid, 16, size_px, depth_channels=8)
    return _rigged(_moved(model), 2)


def bevdepth_trunk() -> Exportable:
    """The shipped small BEVDepth's grid encoder and necks."""
    model = MODELS.build(load_config(REPO_ROOT / "configs/bevdepth/bevdepth_tiny_synthetic.py").model)
    frames = random_batch(2, size_px=model.img_view_transformer.image_size_px)
    rig = replace(frames.rig, names=CAMERAS_DETR3D)
    return Exportable.streaming(settle(model, frames.images, rig), as_batch(frames.images, rig), {})


def segmenter() -> Exportable:
    """A probability for every cell."""
    view = test_published_lift._view()
    encoder = BEVResNet(5, (8, 8, 8), (1, 1, 1))
    parts = test_published_lift._Backbone(), nn.Identity(), view, encoder, LSSFPN(16, 8)
    return _rigged(BEVSegmenter(ImageNormalizer(), *parts, channels=8), 2)


def _on_its_way(model: nn.Module) -> Exportable:
    plain = _rigged(model, 2)
    assert isinstance(plain.model, TemporalDetector) and plain.rig is not None
    example = Exportable.streaming(plain.model, as_batch(plain.images, plain.rig), {})
    moved = torch.eye(4).repeat(2, 1, 1)
    moved[:, :2, 3] = torch.tensor([[0.7, 2.9], [-0.3, 1.1]])
    moved[1, :2, :2] = torch.tensor([[0.96, -0.28], [0.28, 0.96]])
    assert example.state is not None
    way = {"newest_from_ref": moved, "continues": torch.ones(2, dtype=torch.bool)}
    return replace(example, images=plain.images.flip(-1), state={**example.state, **way})


def petr() -> Exportable:
    """Two decoder layers on the coarse level."""
    return _rigged(test_petr._detector(), 2)


def example(name: str) -> Exportable:
    """One of the functions here by name, or ``dense:NAME`` for :func:`dense`."""
    if name.startswith("dense:"):
        return dense(name.removeprefix("dense:"))
    made: Exportable = globals()[name]()
    return made


def dense(base: str) -> Exportable:
    """Two pictures of the 2D detector of a configuration, narrow."""
    torch.manual_seed(0)
    node = _in_wide_groups(test_dense.small(load_config(dense_config(base)).model))
    model = MODELS.build(node)
    for part in model.head.modules():  # a fresh head is made to find nothing
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="linear")
            if base == "ssd300":  # whose maps are loud: saturated scores are all alike and have no order
                part.weight.data *= 0.02
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    side = 300 if base == "ssd300" else 64  # its levels are made for that size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator)
    return Exportable(settle(model, images), images, None, {})


def dense_config(name: str) -> Path:
    """``configs/_base_/model/NAME.py``, or ``configs/FAMILY/NAME.py``."""
    (path,) = REPO_ROOT.glob(f"configs/*/{name}.py" if name.endswith("_coco") else f"configs/_base_/model/{name}.py")
    return path


def _in_wide_groups(node: Any) -> Any:
    """Group norms of eight channels: two values of a single pixel, normalised, would be plus and minus one."""
    if not isinstance(node, Mapping):
        return node
    changed = {key: _in_wide_groups(value) for key, value in node.items()}
    return {**changed, "num_groups": 8} if changed.get("type") == "GN" else changed
