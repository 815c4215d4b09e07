"""Every 2D detector's configuration: it builds, its header has the published number, its size is the published one."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bev.engine import load_config
from bev.models import assigners, losses, necks
from bev.models.assigners import hungarian
from bev.models.reparam import switch_to_deploy
from bev.registry import DATASETS, MODELS
from tests.paths import REPO_ROOT

FAMILIES = (
    *("atss", "efficientdet", "faster_rcnn", "fcos", "gfl", "one_to_one", "picodet", "ppyoloe", "retinanet", "ssd"),
    *("tood", "yolov3", "yolov5", "yolov7", "yolox"),
)
CONFIGS = sorted(path for name in FAMILIES for path in (REPO_ROOT / "configs" / name).glob("*_coco.py"))

# Millions, as their authors or OpenMMLab publish them, and how many digits of it.
PUBLISHED = {
    "yolov3_d53": (61.95, 0.005),
    "yolox_nano": (0.91, 0.005),
    "yolox_tiny": (5.06, 0.005),
    "yolox_s": (9.0, 0.05),
    "yolox_m": (25.3, 0.05),
    "yolox_l": (54.2, 0.05),
    "yolox_x": (99.1, 0.05),
    "yolov5_n": (1.872157, 1e-6),
    "yolov5_s": (7.235389, 1e-6),
    "yolov5_m": (21.190557, 1e-6),
    "yolov5_l": (46.563709, 1e-6),
    "yolov5_x": (86.749405, 1e-6),
    "ppyoloe_s": (7.93, 0.005),
    "ppyoloe_m": (23.43, 0.005),
    "ppyoloe_l": (52.20, 0.005),
    "ppyoloe_x": (98.42, 0.005),
    "retinanet_r50": (37.74, 0.005),
    "fcos_r50": (32.02, 0.005),
    "atss_r50": (32.07, 0.005),
    "ssd300_vgg16": (34.31, 0.005),
    "picodet_s": (0.99, 0.005),
    "picodet_m": (2.15, 0.005),
    "picodet_l": (3.30, 0.005),
    "picodet_lcnet": (3.10, 0.01),  # cut off after two digits
    "efficientdet_d0": (3.9, 0.05),
    "efficientdet_d1": (6.6, 0.05),
    "efficientdet_d2": (8.1, 0.05),
    "efficientdet_d3": (12.0, 0.05),
    "efficientdet_d4": (20.7, 0.05),
    "efficientdet_d5": (33.7, 0.1),  # of 90 classes; see below
    "gfl_r50": (32.22, 0.005),
    "tood_r50": (31.98, 0.005),
    "faster_rcnn_r50": (41.53, 0.005),
}


def detector_of(path: Path) -> nn.Module:
    with torch.device("meta"):
        return MODELS.build(load_config(path).model)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_built_and_counted(path: Path) -> None:
    """Counted as published: what is trained, without teachers and with branches as one convolution."""
    detector = detector_of(path)
    head = detector.head
    if hasattr(head, "prefix"):
        detector.head = head.head
    switch_to_deploy(detector)
    millions = sum(p.numel() for p in detector.parameters() if p.requires_grad) / 1e6
    name = path.stem.removesuffix("_coco")
    header = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert re.search(r"Published[^:]*: AP \d\d\.\d on COCO (val2017|test-dev)", header), header
    if name in PUBLISHED:
        expected, digits = PUBLISHED[name]
        assert millions == pytest.approx(expected, abs=digits * 1.02)
    said = re.search(r"(\d+\.\d+) M parameters", header)
    assert said and float(said[1]) == pytest.approx(millions, abs=0.051), f"{millions} and {header}"


def test_every_published_size_has_its_configuration() -> None:
    assert set(PUBLISHED) <= {path.stem.removesuffix("_coco") for path in CONFIGS}


@pytest.mark.parametrize("size, count", [("d0", 3_880_067), ("d2", 8_097_039), ("d4", 20_723_675)])
def test_efficientdet_has_the_published_count_with_its_ninety_classes(size: str, count: int) -> None:
    cfg = load_config(_config(f"efficientdet/efficientdet_{size}_coco")).model
    cfg.head.network.num_classes = 90
    with torch.device("meta"):
        assert sum(p.numel() for p in MODELS.build(cfg).parameters()) == count


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem != "yolox_nano_coco"], ids=lambda p: p.stem)
def test_variants_are_a_few_lines(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) <= 18, f"{path.name} has {len(lines)} lines"


@pytest.mark.parametrize("name", ["yolox_s", "ssd300_vgg16", "efficientdet_d0", "faster_rcnn_r50"])
def test_their_data_takes_its_arguments(name: str) -> None:
    """The data sets' nodes are whole: only the pictures are missing."""
    (path,) = (p for p in CONFIGS if p.stem == f"{name}_coco")
    cfg = load_config(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        with pytest.raises(Exception, match="instances_(train|val)2017.json"):
            DATASETS.build(loader.dataset)


def _types(module: nn.Module) -> set[type]:
    return {type(part) for part in module.modules()}


def test_two_and_three_dimensional_detectors_share_their_parts() -> None:
    """One FPN, one focal and L1 loss, one matcher, one ResNet: the very classes, and no other of that name."""
    flat = detector_of(_config("retinanet/retinanet_r50_coco"))
    deep = detector_of(_config("detr3d/detr3d_r101_dcn_nusc"))
    shared = _types(flat) & _types(deep)
    assert {necks.FPN, losses.FocalLoss, losses.L1Loss} <= shared
    assert type(flat.backbone) is type(deep.img_backbone)
    matched = detector_of(_config("one_to_one/one_to_one_s_coco")).head.head.criterion.assigner
    kind: Any = type(deep.pts_bbox_head.assigner)
    assert isinstance(matched, hungarian.HungarianAssigner2D) and kind is hungarian.HungarianAssigner3D
    assert kind.assign.__globals__["least_cost_pairs"] is type(matched).assign.__globals__["least_cost_pairs"]
    for name in ("FPN", "FocalLoss", "L1Loss", "HungarianAssigner2D", "ResNet"):
        definitions = [p for p in (REPO_ROOT / "bev/models").rglob("*.py") if f"\nclass {name}(" in p.read_text()]
        definitions += [p for p in (REPO_ROOT / "bev/models").rglob("*.py") if f"\nclass {name}:" in p.read_text()]
        assert len(definitions) == 1, definitions


def test_ppyoloe_begins_with_a_static_assigner() -> None:
    """Published: ATSS for 100 of 300 epochs."""
    cfg = load_config(_config("ppyoloe/ppyoloe_s_coco"))
    criterion = MODELS.build(cfg.model.head.criterion)
    assert criterion.epochs * 3 == cfg.train_cfg.max_epochs == 300
    assert isinstance(criterion.first.assigner.assigner, assigners.ATSSAssigner) and not criterion.first.normalise
    assert isinstance(criterion.later.assigner, assigners.TaskAlignedAssigner) and criterion.later.normalise


def _config(name: str) -> Path:
    return REPO_ROOT / f"configs/{name}.py"
