"""The dense detector: variants from a few lines, empty pictures, losses and assigners by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bev.models  # noqa: F401  (registers the parts)
from bev.engine import load_config
from bev.models import losses
from bev.models.assigners import SimOTAAssigner
from bev.models.assigners.assignment import match_dynamically
from bev.models.assigners.dynamic import varifocal_cost
from bev.models.detectors import DenseDetector
from bev.models.detectors.yolox_weights import from_official, load_onnx
from bev.models.heads.dense.mixture_criterion import better_part
from bev.models.losses.hard_negatives import hard_negative_weights
from bev.models.priors import PointPriors, Priors
from bev.registry import MODELS
from bev.structures import Boxes2D, ImageBatch
from tests.paths import REPO_ROOT

NO_DETECTORS = ("resnet50_fpn", "image_supervision")
# Learning rates of a few plain steps where 1e-3 is none: SSD sees unscaled colours and has no norms; PP-YOLOE's
# attended towers begin with small weights.
RATES = {"ssd300": 1e-5, "ppyoloe_crn": 1e-2}
BASES = sorted(p for p in (REPO_ROOT / "configs/_base_/model").glob("*.py") if p.stem not in NO_DETECTORS)


_LEVELS = (64, 64, 64)
_NARROW: dict[str, dict[str, Any]] = {
    "ResNet": {"base_channels": 8, "stage_blocks": (1, 1, 1, 1), "frozen_stages": -1, "norm_eval": False},
    "CSPDarknet": {"width": 0.125, "depth": 0.33},
    "CSPRepResNet": {"width": 0.125, "depth": 0.33},
    "Darknet53": {"width": 0.125, "blocks": (1, 1, 1, 1, 1)},
    "TinyDarknet": {"width": 0.125},
    "SSDVGG": {"width": 0.125},
    "LCNet": {"width": 0.25},
    "ESNet": {"width": 0.25},
    "EfficientNet": {"variant": "lite0"},
    "YOLOXPAFPN": {"in_channels": (32, 64, 128), "depth": 0.33, "out_channels": 64},
    "FPN": {"in_channels": (32, 64, 128, 256), "out_channels": 64},
    "TinyYOLOv3Neck": {"in_channels": (32, 128), "out_channels": 32},
    "YOLOv3Neck": {"in_channels": (32, 64, 128), "out_channels": (16, 32, 64)},
    "CSPRepPAN": {"in_channels": (32, 64, 128), "out_channels": _LEVELS, "depth": 0.33},
    "LightPAN": {"in_channels": (32, 64, 128), "out_channels": 64},
    "LightTowers": {"num_classes": 3, "in_channels": 64, "stacked_convs": 1},
    "SSDNeck": {"in_channels": (64, 128), "out_channels": (64, 128, 32, 32, 32, 32)},
    "BiFPN": {"layers": 1},
    "ProposalConvs": {"in_channels": 64, "feat_channels": 64},
    "SharedLayers": {"num_classes": 3, "in_channels": 64, "width": 64},
    "AttentionTowers": {"num_classes": 3, "in_channels": _LEVELS},
    "SeparableTowers": {"num_classes": 3, "depth": 1},
}


def small(node: Any) -> Any:
    """The same configuration, narrow: 64 channels, two of each of the norms' 32 groups, for maps of one pixel."""
    if not isinstance(node, Mapping):
        return node
    shrunk = {key: small(value) for key, value in node.items()}
    kind = shrunk.get("type")
    if kind in _NARROW:
        return shrunk | _NARROW[kind]
    if kind == "CoupledConvs":
        if len(shrunk["in_channels"]) == 2:
            return shrunk | {"num_classes": 3, "in_channels": (48, 32)}
        if "mid_channels" in shrunk:
            return shrunk | {"num_classes": 3, "in_channels": (16, 32, 64), "mid_channels": (16, 16, 16)}
        # The lead-guided head's auxiliary network sees the top-down way, whose last two widths are alike.
        top_down = shrunk["in_channels"][1] == shrunk["in_channels"][2]
        return shrunk | {"num_classes": 3, "in_channels": (32, 64, 64) if top_down else _LEVELS}
    if isinstance(shrunk.get("in_channels"), tuple) and len(shrunk["in_channels"]) == 6:
        return shrunk | {"num_classes": 4, "in_channels": (64, 128, 32, 32, 32, 32)}
    if "num_classes" in shrunk:
        shrunk |= {"num_classes": 3, "in_channels": 64, "feat_channels": 64}
    return shrunk


def batch_of(truth: list[list[list[float]]], size: int = 64) -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    count = len(truth)
    boxes = [
        Boxes2D(torch.tensor(b).reshape(-1, 4), torch.arange(len(b)) % 3, torch.ones(len(b))) for b in truth
    ]
    images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    matrix = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    return ImageBatch(images, matrix, [(size, size)] * count, [str(i) for i in range(count)], boxes)


@pytest.mark.parametrize("path", BASES, ids=lambda p: p.stem)
def test_variants_learn_and_predict(path: Path) -> None:
    """A few steps lower the loss; a picture without boxes gives finite losses and every parameter a finite gradient."""
    torch.manual_seed(0)
    detector = MODELS.build(small(load_config(str(path)).model))
    assert isinstance(detector, DenseDetector)
    size = 300 if path.stem == "ssd300" else 64  # its levels are made for that size
    batch = batch_of([[[8.0, 8.0, 40.0, 48.0], [20.0, 4.0, 60.0, 30.0]], []], size)
    optimizer = torch.optim.SGD(detector.parameters(), lr=RATES.get(path.stem, 1e-3))
    totals = []
    for _ in range(5):
        optimizer.zero_grad()
        total = torch.stack(list(detector.loss(batch).values())).sum()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert all(math.isfinite(value) for value in totals) and min(totals[1:]) < totals[0]
    assert all(bool(p.grad.isfinite().all()) for p in detector.parameters() if p.grad is not None)
    empty = torch.stack(list(detector.loss(batch_of([[], []], size)).values())).sum()
    empty.backward()
    assert math.isfinite(empty.item())
    detector.eval()
    for boxes in detector.predict(batch):
        assert bool((boxes.xyxy_px >= 0).all() and (boxes.xyxy_px <= size).all())
        assert bool((boxes.score[:-1] >= boxes.score[1:]).all())


def test_predictions_are_in_the_pictures_own_pixels() -> None:
    """A picture letterboxed by one half gives boxes of twice the network's coordinates."""
    torch.manual_seed(0)
    detector = MODELS.build(small(load_config(str(BASES[0])).model)).eval()
    detector.head.decoder.score_threshold = 0.0
    detector.head.decoder.clip = False
    plain = batch_of([[]])
    scaled = ImageBatch(
        plain.images, torch.diag(torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64))[None], [(128, 128)], ["a"]
    )
    first, second = detector.predict(plain)[0], detector.predict(scaled)[0]
    inside = (first.xyxy_px > 0).all(1) & (first.xyxy_px < 64).all(1)
    torch.testing.assert_close(second.xyxy_px[inside], 2 * first.xyxy_px[inside])


def test_the_2d_and_3d_heads_share_their_parts() -> None:
    from bev.models import heads, necks
    from bev.models.assigners import hungarian

    detr = MODELS.build(load_config(str(REPO_ROOT / "configs/detr3d/detr3d_r101_dcn_nusc.py")).model)
    dense = MODELS.build(small(load_config(str(REPO_ROOT / "configs/_base_/model/retinanet_r50.py")).model))
    assert type(detr.img_neck) is type(dense.neck) is necks.FPN
    assert type(detr.pts_bbox_head.loss_cls) is type(dense.head.criterion.loss_cls) is losses.FocalLoss
    assert isinstance(dense.head, heads.DenseHead)
    assert hungarian.HungarianAssigner3D.assign.__globals__["least_cost_pairs"] is hungarian.least_cost_pairs


def test_official_names_are_all_ours() -> None:
    model = MODELS.build(load_config(str(REPO_ROOT / "configs/yolox/yolox_nano_coco.py")).model)
    named = {
        "backbone.backbone.dark3.1.m.0.conv2.dconv.conv.weight": "backbone.dark3.1.m.0.conv2.dconv.conv.weight",
        "backbone.C3_p4.conv1.bn.running_mean": "neck.C3_p4.conv1.bn.running_mean",
        "head.stems.0.conv.weight": "neck.stems.0.conv.weight",
        "head.cls_convs.1.0.dconv.conv.weight": "head.network.cls_convs.1.0.depthwise_conv.conv.weight",
        "head.reg_convs.2.1.pconv.bn.bias": "head.network.reg_convs.2.1.pointwise_conv.bn.bias",
        "head.obj_preds.2.bias": "head.network.conv_quality.2.bias",
    }
    renamed = from_official({name: torch.zeros(1) for name in named})
    assert list(renamed) == list(named.values())
    assert set(renamed) <= set(model.state_dict())


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model = MODELS.build(load_config(str(REPO_ROOT / "configs/yolox/yolox_nano_coco.py")).model)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x00\x01 not a graph")
    from bev.io.checkpoint import CheckpointError

    for path in (broken, tmp_path / "absent.onnx"):
        with pytest.raises(CheckpointError, match=path.name):
            load_onnx(model, path)


def test_eiou_by_hand() -> None:
    """IoU 1/7 of two 2x2 boxes one apart: hull 3x3, centre term 2/18, equal sides."""
    first, second = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 1.0, 3.0, 3.0]])
    assert losses.EIoULoss()(first, second).item() == pytest.approx(1 - 1 / 7 + 2 / 18, abs=1e-5)
    wide = torch.tensor([[0.0, 0.0, 4.0, 2.0]])
    assert losses.EIoULoss()(first, wide).item() == pytest.approx(1 - 0.5 + 1 / 20 + 4 / 16, abs=1e-5)


def test_symmetric_cross_entropy_by_hand() -> None:
    """Certain and right costs nothing; even odds cost ln 2 and half of -ln(1e-4)."""
    loss = losses.SymmetricCrossEntropyLoss(alpha=1.0, beta=1.0)
    assert loss(torch.tensor([[50.0, 0.0]]), torch.tensor([0])).item() == pytest.approx(0, abs=1e-4)
    even = loss(torch.tensor([[0.0, 0.0]]), torch.tensor([0])).item()
    assert even == pytest.approx(math.log(2) - 0.5 * math.log(1e-4), abs=1e-4)


def test_hard_negatives_keep_the_worst() -> None:
    logits = torch.tensor([[[5.0, 0.0], [3.0, 0.0], [0.0, 3.0], [1.0, 0.0]]])  # one class and background
    labels = torch.tensor([[0, 1, 1, 1]])
    weights = hard_negative_weights(logits, labels, labels == 1, ratio=2.0)
    assert weights.tolist() == [[1.0, 1.0, 0.0, 1.0]]


def test_two_clear_groups_are_parted() -> None:
    """Of two groups far apart the mixture keeps lower values only, up to the likeliest of them."""
    import numpy as np

    values = np.array([0.9, 1.0, 1.1, 8.9, 9.0, 9.1])
    assert better_part(values) == 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 40))
def test_dynamic_matching_is_exclusive(seed: int, boxes: int, priors: int) -> None:
    """No prior answers for two boxes; one box takes its cheapest; a contested prior goes where it is cheapest."""
    generator = torch.Generator().manual_seed(seed)
    cost = torch.rand(priors, boxes, generator=generator)
    iou = torch.rand(priors, boxes, generator=generator)
    taken, wanted = match_dynamically(cost, iou, 10)
    assert bool((taken.sum(1) <= 1).all())
    assert bool((wanted >= 1).all() and (wanted <= priors).all())
    if boxes == 1:
        cheapest = cost[:, 0].topk(int(wanted[0]), largest=False).indices.sort().values
        assert torch.equal(taken[:, 0].nonzero().flatten(), cheapest)
    for row in (taken.sum(1) > 0).nonzero().flatten().tolist():
        rivals = [box for box in range(boxes) if row in cost[:, box].topk(int(wanted[box]), largest=False).indices]
        if len(rivals) > 1:
            assert int(taken[row].int().argmax()) == int(cost[row].argmin())


def test_varifocal_cost_by_hand() -> None:
    """PicoDet, equation 1: the varifocal loss of the IoU in the box's class, negatives of the other classes beside."""
    score, iou = torch.tensor([[0.3, 0.6, 0.1], [0.5, 0.2, 0.9]]), torch.tensor([[0.8], [0.0]])
    first = 0.75 * (0.3**2 * -math.log(0.7) + 0.1**2 * -math.log(0.9))
    first += 0.8 * -(0.8 * math.log(0.6) + 0.2 * math.log(0.4))
    second = 0.75 * sum(p**2 * -math.log(1 - p) for p in (0.5, 0.2, 0.9))  # no overlap: all three are negatives
    found = varifocal_cost(score, torch.tensor([1]), iou)
    torch.testing.assert_close(found, torch.tensor([[first], [second]]))
    logits = (score / (1 - score)).log()
    wanted = torch.tensor([[0.0, 0.8, 0.0], [0.0, 0.0, 0.0]])
    rows = losses.VarifocalLoss(reduction="none")(logits, wanted).sum(1, keepdim=True)
    torch.testing.assert_close(found, rows)


def test_picodets_choice_is_the_cheapest_of_its_cost() -> None:
    priors = PointPriors((8,))([(4, 4)], torch.device("cpu"))
    boxes, label = torch.tensor([[4.0, 4.0, 28.0, 28.0]]), torch.tensor([0])
    decoded = boxes.repeat(16, 1)
    decoded[:, 2] -= torch.linspace(0, 23, 16)  # the first overlaps whole, the last hardly
    assigner = SimOTAAssigner(cost="varifocal", iou_weight=6.0, penalty=1e8, root=False)
    found = assigner.assign(priors, boxes, label, torch.full((16, 2), 0.4), decoded)
    count = int(((28 - torch.linspace(0, 23, 16) - 4) / 24).topk(10).values.sum())
    assert len(found.positive) == count and found.positive.max() < 16
    with pytest.raises(ValueError, match="cost 'focal'"):
        SimOTAAssigner(cost="focal")  # type: ignore[arg-type]


def test_simota_without_candidates_assigns_nothing() -> None:
    priors: Priors = PointPriors((8,), 0.0)([(4, 4)], torch.device("cpu")).moved(0.5)
    far = torch.tensor([[1000.0, 1000.0, 1010.0, 1010.0]])
    scores, decoded = torch.full((16, 2), 0.5), torch.zeros(16, 4)
    result = SimOTAAssigner().assign(priors, far, torch.tensor([0]), scores, decoded)
    assert len(result.positive) == 0
