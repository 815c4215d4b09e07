"""Whole dense heads against mmdet 3.3: outputs, targets, losses, gradients, boxes (golden item mm_heads2d)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bev.models.heads.dense import CoupledConvs, DenseHead, MixtureCriterion, SwitchCriterion
from bev.models.heads.dense.predictions import DensePredictions
from bev.structures import Boxes2D
from tests.parity.golden import Golden, load_weights
from tests.parity.heads2d import build_head, network_weights, our_name
from tests.paths import golden_cases

CASES = [path for path in golden_cases("mm_heads2d") if not path.stem.startswith("two_stage")]
HEADS = pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
# Float64 runs of the published code differ from its float32 by up to these shares of a tensor's largest value.
OUTPUTS, GRADIENTS = 2e-5, 5e-5


def assert_near(result: Tensor, expected: Tensor, share: float, name: str) -> None:
    """Equal up to a share of the largest expected value."""
    assert result.shape == expected.shape, f"{name}: {tuple(result.shape)} instead of {tuple(expected.shape)}"
    scale = float(expected.abs().max()) if expected.numel() else 1.0
    error = float((result.detach() - expected).abs().max()) if expected.numel() else 0.0
    assert error <= share * max(scale, 1e-12), f"{name}: off by {error} of {scale}"


class Case:
    """A file, and the head that it describes with its weights."""

    def __init__(self, path: Path) -> None:
        self.golden = Golden(path)
        self.config = self.golden.config
        self.head: DenseHead = build_head(self.config["head"], self.config.get("epoch"))
        self.kind: str = self.config["head"]["type"]
        load_weights(self.head.network, network_weights(self.golden.group("weights"), self.kind))
        self.features = [x.clone().requires_grad_() for x in self.golden.sequence("in.feats")]
        count = len(self.config["img_shapes"])
        self.truth = [
            Boxes2D(
                self.golden[f"in.gt_bboxes.{i}"],
                self.golden[f"in.gt_labels.{i}"],
                torch.ones(len(self.golden[f"in.gt_labels.{i}"])),
            )
            for i in range(count)
        ]

    def predictions(self) -> DensePredictions:
        """Of the network in its present mode."""
        return self.head.predictions(self.head(self.features))


@pytest.fixture(params=CASES, ids=lambda p: p.stem)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_raw_outputs(case: Case) -> None:
    case.head.eval()
    with torch.no_grad():
        maps = case.head([x.detach() for x in case.features])
    for position, name in enumerate(("cls", "box", "quality")):
        expected = case.golden.sequence(f"out.eval.{position}")
        if isinstance(case.head.network, CoupledConvs):
            expected = [_part(x, name, case.head.network) for x in case.golden.sequence("out.eval.0")]
        assert len(expected) == len(maps.get(name, []))
        for level, (result, wanted) in enumerate(zip(maps.get(name, []), expected)):
            assert_near(result, wanted, OUTPUTS, f"{name} of level {level}")


def _part(joint: Tensor, name: str, network: CoupledConvs) -> Tensor:
    """Of (B, A * (5 + C), H, W) the values that we keep apart."""
    values = joint.unflatten(1, (network.per_cell, -1))
    return {"box": values[:, :, :4], "quality": values[:, :, 4:5], "cls": values[:, :, 5:]}[name].flatten(1, 2)


def test_losses_and_gradients(case: Case) -> None:
    case.head.train()
    losses = case.head.loss(case.head(case.features), case.truth)
    expected: dict[str, Tensor] = {}
    for key, value in case.golden.group("out.loss").items():
        name = key.split(".")[0]
        expected[name] = expected.get(name, torch.tensor(0.0)) + value.sum()
    renamed = {"loss_centerness": "loss_quality", "loss_iou": "loss_quality", "loss_conf": "loss_obj"}
    assert {renamed.get(name, name) for name in expected} == set(losses)
    for name, value in expected.items():
        assert_near(losses[renamed.get(name, name)], value, OUTPUTS, name)
    total = torch.stack(list(losses.values())).sum()
    assert_near(total, case.golden["out.loss_total"], OUTPUTS, "total loss")
    total.backward()
    parameters = dict(case.head.network.named_parameters(remove_duplicate=False))
    for name, gradient in case.golden.group("grad").items():
        if name.startswith("in.feats."):
            result = case.features[int(name.rsplit(".", 1)[1])].grad
        else:
            result = parameters[our_name(name, case.kind)].grad
        assert result is not None, name
        assert_near(result, gradient, GRADIENTS, f"gradient of {name}")


def test_targets(case: Case) -> None:
    case.head.train()
    predictions = case.predictions()
    criterion = case.head.criterion
    if isinstance(criterion, SwitchCriterion):
        criterion = criterion.first if criterion.epoch < criterion.epochs else criterion.later
    # The files keep PAA's candidates.
    choose = criterion.candidates if isinstance(criterion, MixtureCriterion) else criterion.targets
    targets = choose(predictions, case.truth)
    for image in range(len(case.truth)):
        rows = targets.positive[1][targets.positive[0] == image]
        boxes = targets.boxes_px[targets.positive[0] == image]
        _CHECKS[case.kind](case, predictions, targets, image, rows, boxes)


def _check_anchors(case, predictions, targets, image, rows, boxes) -> None:  # type: ignore[no-untyped-def]
    expected = case.golden.group(f"out.targets.{image}")
    assert torch.equal(targets.labels[image], expected["0"])
    assert torch.equal(targets.label_weights[image], expected["1"])
    assert torch.equal(rows, expected["4"])
    assert torch.equal(targets.assignments[image].negative, expected["5"])
    assert torch.equal(targets.assignments[image].box[rows], expected["6.pos_assigned_gt_inds"])
    wanted = torch.zeros_like(expected["2"])
    decoded = case.config["head"].get("reg_decoded_bbox", False)
    wanted[rows] = boxes if decoded else predictions.coder.encode(predictions.priors[rows], boxes)
    assert_near(wanted, expected["2"], OUTPUTS, "box targets")


def _check_aligned(case, predictions, targets, image, rows, boxes) -> None:  # type: ignore[no-untyped-def]
    expected = case.golden.group(f"out.targets.{image}")
    # RTMDet's files have points with strides in the place of anchors.
    priors = predictions.priors
    anchors = priors.xyxy_px
    if case.kind.startswith("RTMDet"):
        anchors = torch.cat([priors.center_px, priors.stride_px[:, None].expand(-1, 2)], -1)
    assert_near(anchors, expected["0"], 1e-6, "anchors")
    assert torch.equal(targets.labels[image], expected["1"])
    assert torch.equal(targets.label_weights[image], expected["2"])
    assert_near(boxes, expected["3"][rows], OUTPUTS, "box targets")
    metric = targets.assignments[image].metric
    if metric is None:
        assert torch.equal(rows, expected["5"])
        assert torch.equal(targets.assignments[image].box[rows], expected["7.pos_assigned_gt_inds"])
    else:
        assert_near(metric, expected["4"], OUTPUTS, "alignment metrics")


def _check_points(case, predictions, targets, image, rows, boxes) -> None:  # type: ignore[no-untyped-def]
    expected = case.golden.group(f"out.targets.{image}")
    assert torch.equal(targets.labels[image], expected["0"])
    sides = predictions.coder.encode(predictions.priors[rows], boxes)
    assert_near(sides, expected["1"][rows], OUTPUTS, "distances")


def _check_objectness(case, predictions, targets, image, rows, boxes) -> None:  # type: ignore[no-untyped-def]
    expected = case.golden.group(f"out.targets.{image}")
    assert torch.equal(targets.labels[image] < predictions.num_classes, expected["0"].bool())
    wanted = torch.zeros(len(rows), predictions.num_classes)
    wanted[torch.arange(len(rows)), targets.labels[image, rows]] = targets.assignments[image].overlap[rows]
    assert_near(wanted, expected["1"], OUTPUTS, "class targets")
    assert_near(boxes, expected["3"], OUTPUTS, "box targets")
    assert len(rows) == int(expected["5"])


def _check_grid(case, predictions, targets, image, rows, boxes) -> None:  # type: ignore[no-untyped-def]
    target_map, negative = case.golden[f"out.targets.{image}.0"], case.golden[f"out.targets.{image}.1"]
    assert torch.equal(rows, (target_map[:, 4] == 1).nonzero().flatten())
    assert torch.equal(targets.assignments[image].negative, negative.nonzero().flatten())
    encoded = predictions.coder.encode(predictions.priors[rows], boxes)
    assert_near(encoded, target_map[rows, :4], OUTPUTS, "box targets")
    assert torch.equal(targets.labels[image, rows], target_map[rows, 5:].argmax(1))


_CHECKS = {
    **dict.fromkeys(("RetinaHead", "SSDHead", "PAAHead"), _check_anchors),
    **dict.fromkeys(("ATSSHead", "GFLHead", "TOODHead", "RTMDetHead", "RTMDetSepBNHead"), _check_aligned),
    "FCOSHead": _check_points,
    "YOLOXHead": _check_objectness,
    "YOLOV3Head": _check_grid,
}


def test_predictions(case: Case) -> None:
    case.head.eval()
    with torch.no_grad():
        found = case.head.predict(case.head(case.features), case.config["img_shapes"])
    for image, boxes in enumerate(found):
        expected = case.golden.group(f"out.pred.{image}")
        scale = torch.tensor(case.config["scale_factors"][image]).repeat(2)
        assert len(boxes) == len(expected["scores"])
        assert bool((boxes.score[:-1] >= boxes.score[1:]).all())
        # Voting lists the boxes by class in the files; by score everywhere here.
        order = expected["scores"].argsort(descending=True, stable=True)
        assert_near(boxes.score, expected["scores"][order], OUTPUTS, "scores")
        _assert_same_boxes(boxes.xyxy_px / scale, boxes.label, expected, order)


def _assert_same_boxes(xyxy: Tensor, label: Tensor, expected: dict[str, Tensor], order: Tensor) -> None:
    """Neighbours whose scores agree to rounding may change places."""
    wanted, wanted_label, score = expected["bboxes"][order], expected["labels"][order], expected["scores"][order]
    near = (score[:, None] - score).abs() <= OUTPUTS * score.max()
    apart = (xyxy[:, None] - wanted).abs().amax(-1) / wanted.abs().max()
    matched = near & (label[:, None] == wanted_label) & (apart <= OUTPUTS)
    assert bool(matched.any(0).all()) and bool(matched.any(1).all()), f"{int((~matched.any(1)).sum())} boxes differ"
