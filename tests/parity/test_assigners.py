"""Dense and one-to-one assigners against mmdet 3.3 (golden item mm_blocks, files assign_*)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bev.models import assigners
from bev.models.assigners import Assignment
from bev.models.priors import Priors
from tests.parity.golden import Golden
from tests.paths import golden_cases

ASSIGN = pytest.mark.parametrize("path", golden_cases("mm_blocks", "assign_*"), ids=lambda p: p.stem)
_NAMES = {
    "pos_iou_thr": "pos_iou",
    "neg_iou_thr": "neg_iou",
    "ignore_iof_thr": "ignore_iof",
    "gt_max_assign_all": "all_best",
    "candidate_topk": "topk",
}


def renamed(config: dict[str, Any]) -> dict[str, Any]:
    """mmdet's arguments under the names they have here."""
    options = {_NAMES.get(key, key): value for key, value in config.items()}
    if options.get("ignore_iof", 0) == -1:
        options["ignore_iof"] = None
    if isinstance(options.get("neg_iou"), list):
        options["neg_iou"] = tuple(options["neg_iou"])
    if "center_radius" in options:
        options["root"] = False
    return options


def _priors(golden: Golden) -> Priors:
    points = golden["in.assign.points_xyss"]
    counts = tuple(golden["in.assign.num_level"].tolist())
    return Priors(golden["in.assign.anchors"], points[:, :2], points[:, 2], counts)


def _assert_same(result: Assignment, golden: Golden, name: str) -> None:
    expected = golden.group(f"out.assign.{name}")
    assert torch.equal(result.box + 1, expected["gt_inds"])
    labels = result.labels(golden["in.assign.gt_labels"], -1)
    assert torch.equal(labels, expected["labels"])
    positive = result.positive
    torch.testing.assert_close(result.overlap[positive], expected["max_overlaps"][positive], atol=1e-6, rtol=1e-5)
    if "assign_metrics" in expected:
        torch.testing.assert_close(result.metric, expected["assign_metrics"], atol=1e-6, rtol=1e-5)


def _config(golden: Golden, name: str) -> dict[str, Any]:
    return renamed(golden.config[f"assign.{name}"])


@ASSIGN
@pytest.mark.parametrize("name", ["max_iou", "max_iou_ign", "max_iou_nolow", "atss", "atss_ign"])
def test_by_anchor(path: Path, name: str) -> None:
    golden = Golden(path)
    kind = assigners.ATSSAssigner if name.startswith("atss") else assigners.MaxIoUAssigner
    ignore = golden["in.assign.ignore"] if name.endswith("ign") else None
    result = kind(**_config(golden, name)).assign(_priors(golden), golden["in.assign.gt_bboxes"], ignore)
    _assert_same(result, golden, name)
    if kind is assigners.MaxIoUAssigner:
        expected = golden[f"out.assign.{name}.max_overlaps"]
        torch.testing.assert_close(result.overlap, expected, atol=1e-6, rtol=1e-5)


@ASSIGN
@pytest.mark.parametrize("name", ["task_aligned", "task_aligned_b", "sim_ota", "dynamic_soft_label"])
def test_by_prediction(path: Path, name: str) -> None:
    golden = Golden(path)
    logits: Tensor = golden["in.assign.logits"]
    kind = {
        "sim_ota": assigners.SimOTAAssigner,
        "dynamic_soft_label": assigners.DynamicSoftLabelAssigner,
    }.get(name, assigners.TaskAlignedAssigner)
    truth = golden["in.assign.gt_bboxes"], golden["in.assign.gt_labels"]
    scores = logits if name == "dynamic_soft_label" else logits.sigmoid()
    result = kind(**_config(golden, name)).assign(_priors(golden), *truth, scores, golden["in.assign.pred_bboxes"])
    _assert_same(result, golden, name)


@ASSIGN
@pytest.mark.parametrize("name", ["hungarian", "hungarian_softmax"])
def test_one_to_one(path: Path, name: str) -> None:
    golden = Golden(path)
    picked = golden["in.assign.hungarian_sel"]
    logits, predicted = golden["in.assign.logits"][picked], golden["in.assign.pred_bboxes"][picked]
    costs = {cost["type"]: cost["weight"] for cost in golden.config[f"assign.{name}"]["match_costs"]}
    softmax = "ClassificationCost" in costs
    if softmax:
        logits = torch.cat([logits, logits.new_zeros(len(logits), 1)], 1)
    width, height = golden["in.assign.img_wh"].tolist()
    assigner = assigners.HungarianAssigner2D(
        costs["ClassificationCost" if softmax else "FocalLossCost"],
        costs["BBoxL1Cost"],
        costs["IoUCost"],
        "softmax" if softmax else "focal",
    )
    label = golden["in.assign.gt_labels"]
    query, box = assigner.assign(logits, predicted, label, golden["in.assign.gt_bboxes"], (height, width))
    expected = golden[f"out.assign.{name}.gt_inds"]
    assert torch.equal(torch.zeros_like(expected).index_copy(0, query, box + 1), expected)
