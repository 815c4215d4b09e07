"""RPN and region head against mmdet 3.3: outputs, targets, losses, gradients, boxes (golden item mm_heads2d)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bev.models import coders, losses, priors
from bev.models.assigners import MaxIoUAssigner
from bev.models.heads import two_stage
from bev.models.heads.dense import AnchorCriterion, DenseDecoder, DenseHead
from bev.models.heads.two_stage.region_head import as_rois
from bev.structures import Boxes2D
from tests.parity.golden import Golden, load_weights
from tests.parity.test_heads2d import _assert_same_boxes, assert_near
from tests.paths import golden_cases

CASES = [path for path in golden_cases("mm_heads2d") if path.stem.startswith("two_stage")]
# Float64 runs of the published code differ from its float32 by up to 1.2e-5 of a tensor's largest value.
OUTPUTS, GRADIENTS = 3e-5, 5e-5


def _assigner(node: dict[str, Any]) -> MaxIoUAssigner:
    low = node["match_low_quality"]
    return MaxIoUAssigner(node["pos_iou_thr"], node["neg_iou_thr"], node["min_pos_iou"], low)


def _sampler(node: dict[str, Any]) -> two_stage.RandomSampler:
    return two_stage.RandomSampler(node["num"], node["pos_fraction"])


def _rpn(config: dict[str, Any]) -> DenseHead:
    anchors, train, test = config["anchor_generator"], config["train_cfg"], config["test_cfg"]
    return DenseHead(
        two_stage.ProposalConvs(config["in_channels"], config["feat_channels"]),
        priors.ScaledAnchors(anchors["strides"], anchors["scales"], anchors["ratios"]),
        coders.DeltaBoxCoder(config["bbox_coder"]["target_stds"]),
        AnchorCriterion(
            _assigner(train["assigner"]),
            losses.SigmoidCrossEntropyLoss(),
            losses.L1Loss(),
            count_negatives=True,
            sampler=_sampler(train["sampler"]),
        ),
        two_stage.ProposalDecoder(test["nms_pre"], test["max_per_img"], test["nms"]["iou_threshold"]),
    )


def _regions(config: dict[str, Any]) -> two_stage.RegionHead:
    head, train, test = config["bbox_head"], config["train_cfg"], config["test_cfg"]
    return two_stage.RegionHead(
        two_stage.RegionFeatures(config["bbox_roi_extractor"]["featmap_strides"]),
        two_stage.SharedLayers(head["num_classes"], head["in_channels"], 7, head["fc_out_channels"]),
        coders.DeltaBoxCoder(head["bbox_coder"]["target_stds"]),
        two_stage.RegionCriterion(_assigner(train["assigner"]), _sampler(train["sampler"])),
        DenseDecoder(test["score_thr"], test["nms"]["iou_threshold"], test["max_per_img"]),
    )


class Case:
    """A file, and both stages with its weights."""

    def __init__(self, path: Path) -> None:
        self.golden = Golden(path)
        self.config = self.golden.config
        self.rpn, self.regions = _rpn(self.config["model"]["rpn_head"]), _regions(self.config["model"]["roi_head"])
        load_weights(self.rpn.network, self.golden.group("weights.rpn_head"))
        load_weights(self.regions.network, self.golden.group("weights.roi_head.bbox_head"))
        self.features = [x.clone().requires_grad_() for x in self.golden.sequence("in.feats")]
        self.proposals = self.golden.sequence("in.proposals")
        boxes, labels = self.golden.sequence("in.gt_bboxes"), self.golden.sequence("in.gt_labels")
        self.truth = [Boxes2D(box, label, torch.ones(len(box))) for box, label in zip(boxes, labels)]
        self.objects = [Boxes2D(t.xyxy_px, torch.zeros_like(t.label), t.score) for t in self.truth]


@pytest.fixture(params=CASES, ids=lambda p: p.stem)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@torch.no_grad()
def test_proposals(case: Case) -> None:
    maps = case.rpn(case.features)
    for index, name in enumerate(("cls", "box")):
        for level, expected in enumerate(case.golden.sequence(f"out.rpn.raw.{index}")):
            assert_near(maps[name][level], expected, OUTPUTS, f"{name} of level {level}")
    for image, found in enumerate(case.rpn.predict(maps, case.config["img_shapes"])):
        expected = case.golden.group(f"out.rpn.proposals.{image}")
        assert_near(found.score, expected["scores"], OUTPUTS, "scores")
        _assert_same_boxes(found.xyxy_px, found.label, expected, torch.arange(len(found)))


@torch.no_grad()
def test_regions(case: Case) -> None:
    rois = as_rois(case.proposals)
    assert_near(rois, case.golden["out.roi.raw.rois"], 1e-6, "regions")
    pooled = case.regions.features(case.features, rois)
    assert_near(pooled.flatten()[::7], case.golden["out.roi.feats_every_7"], OUTPUTS, "features")
    cls, box = case.regions(case.features, rois)
    assert_near(cls, case.golden["out.roi.raw.cls_score"], OUTPUTS, "logits")
    assert_near(box.flatten(1), case.golden["out.roi.raw.bbox_pred"], OUTPUTS, "boxes")
    found = case.regions.predict(case.features, case.proposals, case.config["img_shapes"])
    for image, boxes in enumerate(found):
        expected = case.golden.group(f"out.pred.{image}")
        scale = torch.tensor(case.config["scale_factors"][image]).repeat(2)
        assert_near(boxes.score, expected["scores"], OUTPUTS, "scores")
        # Thin regions have the same features, hence scores: which of those comes first is nobody's definition.
        scores = cls.softmax(-1)[rois[:, 0] == image]
        alike = (scores[:, boxes.label] - boxes.score).abs() < 1e-6
        alone = alike.sum(0) == 1
        assert int(alone.sum()) >= 95
        wanted = {name: value[alone] for name, value in expected.items()}
        found_px = boxes.xyxy_px[alone] / scale
        _assert_same_boxes(found_px, boxes.label[alone], wanted, torch.arange(len(found_px)))


def test_targets(case: Case) -> None:
    predictions = case.rpn.predictions(case.rpn(case.features))
    anchors = case.rpn.criterion.targets(predictions, case.objects)
    targets = case.regions.criterion.targets(case.proposals, case.truth, case.regions.network.num_classes)
    starts = [0, *torch.tensor(targets.per_image).cumsum(0).tolist()]
    for image in range(len(case.truth)):
        expected = case.golden.group(f"out.rpn.targets.{image}")
        assert torch.equal(anchors.labels[image], expected["0"])
        assert torch.equal(anchors.label_weights[image], expected["1"])
        assert torch.equal(anchors.assignments[image].positive, expected["4"])
        expected = case.golden.group(f"out.roi.targets.{image}")
        rows = slice(starts[image], starts[image + 1])
        label, rois, wanted = targets.label[rows], targets.rois_px[rows], targets.wanted_px[rows]
        assert torch.equal(label, expected["0"]) and bool((rois[:, 0] == image).all())
        positive = label < case.regions.network.num_classes
        region = two_stage.region_criterion.as_priors(rois[positive, 1:])
        encoded = torch.zeros_like(expected["2"])
        encoded[positive] = case.regions.box_coder.encode(region, wanted[positive])
        assert_near(encoded, expected["2"], OUTPUTS, "box targets")


def test_losses_and_gradients(case: Case) -> None:
    first = case.rpn.criterion(case.rpn.predictions(case.rpn(case.features)), case.objects)
    second = case.regions.loss(case.features, case.proposals, case.truth)
    for name in ("cls", "bbox"):
        expected = sum(case.golden.sequence(f"out.rpn.loss.loss_rpn_{name}"))
        assert_near(first[f"loss_{name}"], expected, OUTPUTS, f"{name} of the first stage")
        assert_near(second[f"loss_{name}"], case.golden[f"out.roi.loss.loss_{name}"], OUTPUTS, f"{name} of the second")
    total = sum(first.values()) + sum(second.values())
    assert_near(total, case.golden["out.loss_total"], OUTPUTS, "total loss")
    total.backward()
    parameters = {f"rpn_head.{k}": v for k, v in case.rpn.network.named_parameters()}
    parameters |= {f"roi_head.bbox_head.{k}": v for k, v in case.regions.network.named_parameters()}
    for name, gradient in case.golden.group("grad").items():
        result = case.features[int(name[9:])] if name.startswith("in.feats.") else parameters[name]
        assert result.grad is not None, name
        assert_near(result.grad, gradient, GRADIENTS, f"gradient of {name}")
