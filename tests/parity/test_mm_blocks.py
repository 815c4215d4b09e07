"""ResNet, VoVNet, FPN, focal and L1 losses against mmdet 3.3 (golden item mm_blocks; tolerances from its README)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bev.models.backbones import ResNet, VoVNet
from bev.models.losses import FocalLoss, L1Loss, SmoothL1Loss
from bev.models.necks import FPN
from tests.parity.golden import Golden, assert_gradients, load_weights
from tests.paths import golden_cases

BLOCKS = pytest.mark.parametrize("path", golden_cases("mm_blocks", "blocks_*"), ids=lambda p: p.stem)
VOVNETS = pytest.mark.parametrize("path", golden_cases("mm_blocks", "vovnet_*"), ids=lambda p: p.stem)
LOSSES = pytest.mark.parametrize("path", golden_cases("mm_blocks", "losses_*"), ids=lambda p: p.stem)


def _rule(outputs: list[Tensor]) -> Tensor:
    """The scalar whose gradients are stored: sum of out * sin(0, 1, 2, ...)."""
    return sum((out * torch.sin(torch.arange(out.numel(), dtype=out.dtype)).view_as(out)).sum() for out in outputs)


def _resnet(config: dict) -> ResNet:
    groups = config.get("dcn", {}).get("deform_groups", 1)
    return ResNet(
        config["depth"],
        style=config["style"],
        out_indices=config["out_indices"],
        frozen_stages=config["frozen_stages"],
        norm_eval=config["norm_eval"],
        norm_frozen=not config["norm_cfg"]["requires_grad"],
        dcn_stages=config.get("stage_with_dcn", [False] * 4) if "dcn" in config else [False] * 4,
        deform_groups=groups,
        num_stages=config["num_stages"],
        base_channels=config["base_channels"],
        stage_blocks=config["blocks"],
    )


@BLOCKS
@pytest.mark.parametrize("name", ["resnet_caffe", "resnet_pytorch"])
def test_resnet(path: Path, name: str) -> None:
    golden = Golden(path)
    config = golden.config[name]
    net = _resnet(config)
    load_weights(net, golden.group(f"weights.{name}"))
    parameters = dict(net.named_parameters())
    assert all(not parameters[key].requires_grad for key in config["frozen_params"])
    assert set(config["trainable"]) <= {key for key, value in parameters.items() if value.requires_grad}
    net.eval()
    with torch.no_grad():
        _assert_outputs(net(golden["in.resnet.x"]), golden.group(f"out.{name}.eval"))
    net.train()
    images = golden["in.resnet.x"].requires_grad_()
    outputs = net(images)
    _assert_outputs(outputs, golden.group(f"out.{name}.train"))
    (_rule(outputs) / 100).backward()
    expected = golden.group(f"grad.{name}")
    torch.testing.assert_close(images.grad, expected.pop("x"), atol=2e-4, rtol=1e-4)
    assert_gradients(net, expected, atol=2e-4, rtol=1e-4)


@VOVNETS
def test_vovnet(path: Path) -> None:
    golden = Golden(path)
    config = golden.config
    stages = [int(name.removeprefix("stage")) - 2 for name in config["out_features"]]
    net = VoVNet(config["spec"], stages, config["frozen_stages"], config["norm_eval"])
    load_weights(net, golden.group("weights"))
    with torch.no_grad():
        _assert_outputs(net.eval()(golden["in.x"]), golden.group("out.eval"), relative=4e-5)
    net.train()
    images = golden["in.x"].requires_grad_()
    outputs = net(images)
    _assert_outputs(outputs, golden.group("out.train"), relative=4e-5)
    _rule(outputs).backward()
    own = {"in.x": images.grad, **{name: value.grad for name, value in net.named_parameters()}}
    for name, gradient in golden.group("grad").items():
        error, largest = float((own[name] - gradient).abs().max()), float(gradient.abs().max())
        assert error <= 1e-4 * largest, (name, error, largest)


def _assert_outputs(outputs: list[Tensor], expected: dict[str, Tensor], relative: float = 0.0) -> None:
    """Files number the outputs by position; ``relative`` is of each map's largest magnitude."""
    assert len(outputs) == len(expected)
    for output, key in zip(outputs, sorted(expected, key=int)):
        absolute = relative * float(expected[key].abs().max()) if relative else 1e-4
        torch.testing.assert_close(output, expected[key], atol=absolute, rtol=1e-4)


@BLOCKS
def test_fpn(path: Path) -> None:
    golden = Golden(path)
    config = dict(golden.config["fpn"])
    extra = config.pop("add_extra_convs", False)
    neck = FPN(extra_levels={False: "max_pool", True: "on_input"}.get(extra, extra), **config)
    load_weights(neck, golden.group("weights.fpn"))
    maps = [x.requires_grad_() for x in golden.sequence("in.fpn")]
    outputs = neck(maps)
    _assert_outputs(outputs, golden.group("out.fpn"))
    _rule(outputs).backward()
    expected = golden.group("grad.fpn")
    for level, x in enumerate(maps):
        if f"in.{level}" in expected:
            torch.testing.assert_close(x.grad, expected.pop(f"in.{level}"), atol=2e-4, rtol=1e-4)
    assert_gradients(neck, expected, atol=2e-4, rtol=1e-4)


_LOSSES: dict[str, type[nn.Module]] = {
    "focal": FocalLoss,
    "focal_g1.5": FocalLoss,
    "l1": L1Loss,
    "smooth_l1": SmoothL1Loss,
    "smooth_l1_b0.11": SmoothL1Loss,
}


@LOSSES
@pytest.mark.parametrize("name", list(_LOSSES))
def test_loss(path: Path, name: str) -> None:
    golden = Golden(path)
    config, expected = golden.config[f"loss.{name}"], golden.group(f"out.loss.{name}")
    focal = name.startswith("focal")
    prediction = golden["in.loss.logits" if focal else "in.loss.pred_boxes"].requires_grad_()
    target = golden["in.loss.target" if focal else "in.loss.gt_boxes"]
    weight = golden["in.loss.weight"] if focal else golden["in.loss.weight"][:, None].expand(-1, 4)
    for reduction in ("none", "mean", "sum"):
        result = _LOSSES[name](reduction=reduction, **config)(prediction, target, weight)
        torch.testing.assert_close(result, expected[reduction], atol=3e-5, rtol=1e-5)
    average = _LOSSES[name](**config)(prediction, target, weight, avg_factor=7.5)
    torch.testing.assert_close(average, expected["avg"], atol=3e-5, rtol=1e-5)
    average.backward()
    torch.testing.assert_close(prediction.grad, golden[f"grad.loss.{name}"], atol=3e-5, rtol=1e-5)
