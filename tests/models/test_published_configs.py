"""Every shipped configuration of the lift-splat family builds; published ones have the published names and sizes; small
ones learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bev.engine.config import load_config
from bev.models.detectors.bevdet_names import from_bevdepth, from_bevdet, to_bevdepth
from bev.registry import DATASETS, METRICS, MODELS
from bev.structures import Batch, collate
from tests.models.rigs import random_batch
from tests.paths import REPO_ROOT

# Parameters of each published configuration, frozen ones too.
SIZES = {
    "bevdet/bevdet_r50_nusc": 47_975_297,
    "bevdet/bevdet_r50_dev2_nusc": 44_248_527,
    "bevdet/bevdet_swint_nusc": 55_723_451,
    "bevdet/bevdet4d_r50_nusc": 48_307_649,
    "bevdepth/bevdepth_r50_2key_nusc": 76_384_590,
    "bevdepth/bevdet_bevdepth_r50_nusc": 52_884_958,
    "lss/lss_effb0_nusc": 12_615_270,
}
SMALL = (
    "bevdet/bevdet4d_tiny_synthetic",
    "bevdet/bevdet4d_single_tiny_synthetic",
    "bevdepth/bevdepth_tiny_synthetic",
)


def _build(name: str) -> torch.nn.Module:
    return MODELS.build(load_config(REPO_ROOT / f"configs/{name}.py").model)


def test_every_configuration_is_listed() -> None:
    folders = [REPO_ROOT / "configs" / name for name in ("bevdet", "bevdepth", "lss")]
    found = {f"{path.parent.name}/{path.stem}" for folder in folders for path in folder.glob("*.py")}
    assert found == {*SIZES, *SMALL, "bevdet/bevdet_tiny_synthetic"}


@pytest.mark.parametrize("name", list(SIZES))
def test_published_sizes(name: str) -> None:
    with torch.device("meta"):
        config = load_config(REPO_ROOT / f"configs/{name}.py")
        model = MODELS.build(config.model)
    assert sum(p.numel() for p in model.parameters()) == SIZES[name]
    # 2048 x 1000 + 1000 of torchvision's 25,557,032 belong to its classifier.
    if config.model.img_backbone.type == "ResNet":
        assert sum(p.numel() for p in model.img_backbone.parameters()) == 25_557_032 - 2_049_000


def test_names_of_bevdet_master() -> None:
    with torch.device("meta"):
        state = _build("bevdet/bevdet_r50_nusc").state_dict()
    expected = {
        "img_backbone.layer4.2.conv3.weight": (2048, 512, 1, 1),
        "img_neck.lateral_convs.1.conv.weight": (512, 2048, 1, 1),
        "img_neck.fpn_convs.0.conv.bias": (512,),
        "img_view_transformer.frustum": (59, 16, 44, 3),
        "img_view_transformer.dx": (3,),
        "img_view_transformer.bx": (3,),
        "img_view_transformer.nx": (3,),
        "img_view_transformer.depthnet.weight": (123, 512, 1, 1),
        "img_bev_encoder_backbone.layers.2.0.downsample.bias": (512,),
        "img_bev_encoder_backbone.layers.0.0.conv1.weight": (128, 64, 3, 3),
        "img_bev_encoder_neck.conv.0.weight": (512, 640, 3, 3),
        "img_bev_encoder_neck.up2.1.weight": (256, 512, 3, 3),
        "img_bev_encoder_neck.up2.4.bias": (256,),
        "pts_bbox_head.shared_conv.conv.weight": (64, 256, 3, 3),
        "pts_bbox_head.shared_conv.bn.running_var": (64,),
        "pts_bbox_head.task_heads.5.heatmap.1.bias": (2,),
        "pts_bbox_head.task_heads.0.vel.0.bn.weight": (64,),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected
    assert "img_neck.fpn_convs.1.conv.weight" not in state
    assert set(from_bevdet({f"module.{name}": value for name, value in state.items()})) == set(state)


def test_names_of_bevdet_dev2() -> None:
    with torch.device("meta"):
        state = _build("bevdet/bevdet_r50_dev2_nusc").state_dict()
    assert tuple(state["img_view_transformer.depth_net.weight"].shape) == (123, 256, 1, 1)
    assert [name for name in state if name.startswith("img_view_transformer.")] == [
        "img_view_transformer.depth_net.weight",
        "img_view_transformer.depth_net.bias",
    ]
    assert tuple(state["pts_bbox_head.task_heads.0.heatmap.1.weight"].shape) == (10, 64, 3, 3)
    assert not any(".task_heads.1." in name for name in state)


def test_names_of_bevdepth() -> None:
    with torch.device("meta"):
        state = _build("bevdepth/bevdepth_r50_2key_nusc").state_dict()
    published = to_bevdepth(state)
    expected = {
        "model.backbone.voxel_size": (3,),
        "model.backbone.voxel_coord": (3,),
        "model.backbone.voxel_num": (3,),
        "model.backbone.frustum": (112, 16, 44, 4),
        "model.backbone.img_backbone.layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "model.backbone.img_neck.deblocks.0.0.weight": (128, 256, 4, 4),
        "model.backbone.img_neck.deblocks.3.0.weight": (2048, 128, 2, 2),
        "model.backbone.depth_net.reduce_conv.0.weight": (512, 512, 3, 3),
        "model.backbone.depth_net.depth_conv.3.aspp4.atrous_conv.weight": (512, 512, 3, 3),
        "model.backbone.depth_net.depth_conv.4.conv_offset.weight": (18, 512, 3, 3),
        "model.backbone.depth_net.depth_conv.4.weight": (512, 128, 3, 3),
        "model.backbone.depth_net.depth_conv.5.bias": (112,),
        "model.head.trunk.conv1.weight": (160, 160, 7, 7),
        "model.head.trunk.layer3.1.conv2.weight": (640, 640, 3, 3),
        "model.head.neck.deblocks.3.0.weight": (640, 64, 8, 8),
        "model.head.shared_conv.conv.weight": (64, 256, 3, 3),
        "model.head.task_heads.3.heatmap.1.bias": (1,),
    }
    assert {name: tuple(published[name].shape) for name in expected} == expected
    assert list(from_bevdepth(published)) == list(state)
    with pytest.raises(ValueError, match="'optimizer.step' is not of a BEVDepth checkpoint"):
        from_bevdepth({"optimizer.step": torch.zeros(1)})


@pytest.fixture(scope="module")
def synthetic_batch(synthetic_root: Path) -> Batch:
    """Two frames of the synthetic world with one previous frame each."""
    node = load_config(REPO_ROOT / f"configs/{SMALL[0]}.py").train_dataloader.dataset.to_dict()
    dataset = DATASETS.build({**node, "root": str(synthetic_root), "cache": "none"})
    dataset.history = 1
    return collate([dataset[1], dataset[8]])


@pytest.mark.parametrize("name", SMALL)
def test_small_ones_learn(name: str, synthetic_batch: Batch) -> None:
    torch.manual_seed(0)
    model = _build(name).train()
    assert len(synthetic_batch.previous) == 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(6):
        losses = model.loss(synthetic_batch)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35.0)
        optimizer.step()
        totals.append(float(total.detach()))
    assert "loss_depth" in losses and totals[-1] < 0.8 * totals[0], totals
    used = {n for n, p in model.named_parameters() if p.grad is not None and float(p.grad.abs().sum()) > 0}
    # A task without a box in these two frames teaches its regression nothing.
    idle = [n for n, _ in model.named_parameters() if n not in used and ".task_heads." not in n]
    assert not idle, idle
    boxes = model.eval().predict(replace(synthetic_batch, boxes=None, points=None))
    assert len(boxes) == 2 and all(b.score.diff().le(0).all() for b in boxes)


def test_lss_segments(synthetic_batch: Batch) -> None:
    config = load_config(REPO_ROOT / "configs/lss/lss_effb0_nusc.py")
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    loss = model.loss(synthetic_batch)["loss_segmentation"]
    loss.backward()
    assert 0 < float(loss) < 5 and model.segment.weight.grad.abs().sum() > 0
    with torch.no_grad():
        masks = model.eval().predict(synthetic_batch)
    assert [tuple(mask.shape) for mask in masks] == [(200, 200)] * 2
    metric = METRICS.build(config.val_evaluator)
    metric.process(synthetic_batch, [m.float() for m in model.targets(synthetic_batch.boxes)])
    assert metric.compute_metrics(metric.results) == {"IoU": 1.0}
    metric.process(synthetic_batch, [torch.zeros(200, 200)] * 2)
    assert metric.compute_metrics(metric.results)["IoU"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="but the metric.s grid is"):
        metric.process(synthetic_batch, [torch.zeros(3, 3)] * 2)


def test_batches_without_points_are_refused() -> None:
    model = _build(SMALL[0])
    batch = replace(random_batch(1, size_px=(128, 352)), points=None)
    with pytest.raises(ValueError, match="load_points=True"):
        model.loss(batch)
