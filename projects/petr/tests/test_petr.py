"""PETR as a project: doors, padding, shared branches, published configurations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bev.engine.config import load_config
from bev.models.assigners import HungarianAssigner3D
from bev.models.attention import GlobalDecoderLayer, GlobalTransformer
from bev.models.backbones import ResNet
from bev.models.coders import NMSFreeCoder
from bev.models.losses import FocalLoss, L1Loss
from bev.models.necks import FPN
from bev.models.preprocess import ImageNormalizer
from bev.registry import MODELS
from projects.petr import PETR, PETRHead
from tests.models.rigs import random_batch

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*_nusc.py"))
DIM = 16


def _detector(layers: int = 2) -> PETR:
    torch.manual_seed(0)
    transformer = GlobalTransformer(DIM, [GlobalDecoderLayer(DIM, 2, 32, 0.0) for _ in range(layers)])
    parts = (HungarianAssigner3D(), NMSFreeCoder(20), FocalLoss(loss_weight=2.0), L1Loss(0.25))
    range_m, wider_m = (-20.0, -20.0, -3.0, 20.0, 20.0, 3.0), (-25.0, -25.0, -5.0, 25.0, 25.0, 5.0)
    head = PETRHead(transformer, DIM, 30, DIM, 10, range_m, wider_m, *parts, depth_count=8)
    backbone = ResNet(18, base_channels=8, out_indices=(1, 2), num_stages=3, norm_eval=True)
    return PETR(ImageNormalizer(), backbone, FPN(backbone.out_channels, DIM, 2), head)


def test_doors_and_gradients() -> None:
    detector, batch = _detector(), random_batch()
    losses = detector.train().loss(batch)
    assert set(losses) == {"loss_cls", "loss_bbox", "d0.loss_cls", "d0.loss_bbox"}
    sum(losses.values()).backward()
    # The coarser level is not read.
    silent = [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert silent and all(name.startswith("img_neck.fpn_convs.1") for name in silent)
    for boxes in detector.eval().predict(batch):
        assert len(boxes) <= 20 and bool((boxes.score.diff() <= 0).all())


def test_padding_is_not_attended_to() -> None:
    detector, batch = _detector().eval(), random_batch()
    feature = torch.randn(2, 6, DIM, 8, 12)
    changed = feature.clone()
    changed[..., 6:, :] += 5
    with torch.no_grad():
        ours, theirs = (detector.pts_bbox_head([f], batch.rig, (48, 96))["cls_logits"] for f in (feature, changed))
        whole = detector.pts_bbox_head([changed], batch.rig)["cls_logits"]
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(whole, theirs)


def test_branches_are_one_pair_under_six_names() -> None:
    head = _detector().pts_bbox_head
    assert len(head.cls_branches) == len(head.reg_branches) == 6
    assert head.cls_branches[0] is head.cls_branches[5]
    with pytest.raises(ValueError, match="7 decoder layers need as many branches"):
        _detector(layers=7)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_published_configurations_build(path: Path) -> None:
    with torch.device("meta"):
        model = MODELS.build(load_config(path).model)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["pts_bbox_head.position_encoder.0.weight"] == (1024, 192, 1, 1)
    assert shapes["pts_bbox_head.adapt_pos3d.0.weight"] == (1024, 384, 1, 1)
    assert shapes["pts_bbox_head.query_embedding.0.weight"] == (256, 384)
    assert shapes["pts_bbox_head.transformer.decoder.layers.5.attentions.1.attn.in_proj_weight"] == (768, 256)
    assert shapes["pts_bbox_head.transformer.decoder.layers.5.ffns.0.layers.0.0.weight"] == (2048, 256)
    assert "img_neck.fpn_convs.0.conv.weight" in shapes and "img_neck.fpn_convs.1.conv.weight" not in shapes
