"""Distillation terms by hand: the divergences, the share of the hard terms, bins of box sides."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from bev.engine import load_config
from bev.models.losses.distillation import (
    BoxDistillation,
    FeatureDistillation,
    LogitDistillation,
    bernoulli_divergence,
    softmax_divergence,
)
from bev.registry import MODELS, ConfigError
from tests.paths import REPO_ROOT


def test_divergences_by_hand() -> None:
    p, q = 0.8, 0.3
    logit = [torch.tensor(math.log(x / (1 - x))) for x in (p, q)]
    want = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert float(bernoulli_divergence(logit[1], logit[0], 1.0)) == pytest.approx(want, rel=1e-5)
    # Dividing both by T and multiplying by T^2, written out.
    soft = bernoulli_divergence(logit[1] * 3, logit[0] * 3, 3.0)
    assert float(soft) == pytest.approx(9 * want, rel=1e-5)
    first, second = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.2, 0.2, 0.6])
    want = float((first * (first / second).log()).sum())
    assert float(softmax_divergence(second.log() + 7, first.log(), 1.0)) == pytest.approx(want, rel=1e-5)
    assert float(softmax_divergence(2 * second.log(), 2 * first.log(), 2.0)) == pytest.approx(4 * want, rel=1e-5)
    extreme = bernoulli_divergence(torch.tensor([200.0, -200.0]), torch.tensor([-200.0, 200.0]), 1.0)
    assert bool(torch.isfinite(extreme).all())


def head_of(name: str, **box: Any) -> nn.Module:
    """A published head made small: two classes, eight channels."""
    node = load_config(REPO_ROOT / f"configs/_base_/model/{name}.py").model.head
    node.network.update(num_classes=2, in_channels=8, feat_channels=8)
    if box:
        node.box_coder.update(box)
        node.network.box_channels = 4 * (box["reg_max"] + 1)
    return MODELS.build(node).eval()


@pytest.fixture(scope="module")
def features() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 8, side, side, generator=generator) for side in (8, 4, 2)]


def test_class_logits_and_bins_pull_the_student(features: list[torch.Tensor]) -> None:
    torch.manual_seed(1)
    student, teacher = head_of("ppyoloe"), head_of("ppyoloe")
    with torch.no_grad():
        taught = teacher(features)
        for key in taught:  # fresh heads say nearly the same everywhere
            taught[key] = [level + torch.randn_like(level) for level in taught[key]]
    for term, key in ((LogitDistillation(alpha=1.0), "cls"), (BoxDistillation(), "box")):
        given = student(features)
        own = {name: [level.detach().clone().requires_grad_() for level in maps] for name, maps in given.items()}
        value = term((student, own), (teacher, taught))
        assert float(value.detach()) > 0
        value.backward()
        for maps in own:
            assert all((level.grad is not None) == (maps == key) for level in own[maps])
        # A step against the gradient, priors of weight included, brings the student nearer.
        closer = {**own, key: [level - 50 * level.grad for level in own[key]]}
        assert float(term((student, closer), (teacher, taught)).detach()) < float(value.detach())
        assert float(term((student, taught), (teacher, taught))) == pytest.approx(0, abs=1e-5)


def test_bins_are_the_sides_softmax(features: list[torch.Tensor]) -> None:
    """One level, by the definition: the mean over four sides, priors weighted by the teacher's best score."""
    head = head_of("ppyoloe")
    generator = torch.Generator().manual_seed(3)
    ours, theirs = (
        {"cls": [torch.randn(1, 2, s, s, generator=generator) for s in (2, 1, 1)],
         "box": [torch.randn(1, 68, s, s, generator=generator) for s in (2, 1, 1)]}
        for _ in range(2)
    )  # fmt: skip
    found = float(BoxDistillation(temperature=4.0, weight=2.0)((head, ours), (head, theirs)))
    total, weights = 0.0, 0.0
    for s, t, scores in zip(ours["box"], theirs["box"], theirs["cls"]):
        for row, column in ((r, c) for r in range(s.shape[2]) for c in range(s.shape[3])):
            weight = float(scores[0, :, row, column].sigmoid().max())
            sides = 0.0
            for k in range(4):
                bins = slice(17 * k, 17 * (k + 1))
                p, q = ((x[0, bins, row, column] / 4).softmax(0) for x in (t, s))
                sides += 16 * float((p * (p / q).log()).sum()) / 4
            total, weights = total + weight * sides, weights + weight
    assert found == pytest.approx(2 * total / weights, rel=1e-4)


def test_hard_terms_get_the_rest_of_alpha() -> None:
    term = LogitDistillation(alpha=0.3)
    losses = {"loss_cls": torch.tensor(2.0), "loss_bbox": torch.tensor(5.0)}
    scaled = {name: float(value) for name, value in term.scale_others(losses).items()}
    assert scaled == pytest.approx({"loss_cls": 1.4, "loss_bbox": 5.0})
    with pytest.raises(ConfigError, match="'loss_cls'; the student's terms are: loss_heatmap"):
        term.scale_others({"loss_heatmap": torch.tensor(1.0)})


def test_heads_that_do_not_fit_are_named(features: list[torch.Tensor]) -> None:
    bins, plain = head_of("ppyoloe"), head_of("yolox")
    other = head_of("ppyoloe", reg_max=8)
    with pytest.raises(ConfigError, match="teacher's StrideBoxCoder has no bins"):
        BoxDistillation()((bins, bins(features)), (plain, plain(features)))
    with pytest.raises(ConfigError, match="must be alike"):
        BoxDistillation()((bins, bins(features)), (other, other(features)))
    with pytest.raises(ConfigError, match="must be alike"):
        LogitDistillation()((bins, bins(features)), (bins, bins(features[:2] + [features[1]])))
    with pytest.raises(ConfigError, match="needs dense heads"):
        LogitDistillation()((nn.Conv2d(1, 1, 1), {}), (bins, bins(features)))


def test_feature_maps(features: list[torch.Tensor]) -> None:
    same = FeatureDistillation(weight=3.0)
    part = nn.Identity()
    assert float(same((part, features), (part, [x + 2 for x in features]))) == pytest.approx(12.0, rel=1e-5)
    where = FeatureDistillation(kind="channel")
    assert float(where((part, features), (part, [x + 2 for x in features]))) == pytest.approx(0.0, abs=1e-5)
    five = features[0][None]  # (batch, cameras, C, H, W)
    assert float(same((part, five), (part, five))) == 0.0
    adapted = FeatureDistillation(student_channels=8, teacher_channels=5)
    adapted((part, features), (part, [x[:, :5] for x in features])).backward()
    assert len(adapted.adapters) == 1 and adapted.adapters[0].weight.grad is not None
    with pytest.raises(ConfigError, match="2 adapters for 3 maps"):
        FeatureDistillation(student_channels=[8, 8], teacher_channels=[8, 8])((part, features), (part, features))
