"""ResNet and FPN: names, freezing, strides, levels of every mode, bad arguments."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bev.models.backbones import ResNet
from bev.models.grid_mask import GridMask
from bev.models.necks import FPN


@pytest.mark.parametrize("style", ["pytorch", "caffe"])
@pytest.mark.parametrize("depth, expansion, blocks", [(18, 1, 8), (34, 1, 16), (50, 4, 16), (101, 4, 33), (152, 4, 50)])
def test_depths(depth: int, expansion: int, blocks: int, style: str) -> None:
    with torch.device("meta"):
        net = ResNet(depth, style=style)
        maps = net(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == [(64 * expansion * 2**k, 16 >> k, 24 >> k) for k in range(4)]
    assert sum(name.endswith("conv2.weight") for name, _ in net.named_parameters()) == blocks
    if expansion == 4:
        strides = [getattr(net.layer2[0], name).stride for name in ("conv1", "conv2")]
        assert strides == ([(2, 2), (1, 1)] if style == "caffe" else [(1, 1), (2, 2)])


def test_names_of_torchvision() -> None:
    names = set(ResNet(18).state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer2.0.downsample.1.bias"} <= names
    assert len(names) == 120  # torchvision's resnet18 has 122 with its fc.weight and fc.bias


@pytest.mark.parametrize("frozen", [-1, 0, 2])
def test_frozen_stages(frozen: int) -> None:
    net = ResNet(18, base_channels=4, frozen_stages=frozen).train()
    modules = [net.conv1, net.bn1, net.layer1, net.layer2, net.layer3]
    count = 0 if frozen < 0 else 2 + frozen
    for index, module in enumerate(modules):
        assert all(p.requires_grad is (index >= count) for p in module.parameters())
        assert all(m.training is (index >= count) for m in module.modules() if isinstance(m, nn.BatchNorm2d))


def test_norm_eval_keeps_statistics_and_norm_frozen_keeps_weights() -> None:
    net = ResNet(18, base_channels=4, norm_eval=True, norm_frozen=True).train()
    before = net.bn1.running_mean.clone()
    sum(x.sum() for x in net(torch.randn(2, 3, 32, 32))).backward()
    assert torch.equal(net.bn1.running_mean, before) and net.training
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(p.grad is None and not p.requires_grad for n in norms for p in n.parameters())
    assert net.conv1.weight.grad is not None


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth": 19}, "depth 19 is not one of"),
        ({"depth": 18, "style": "caffee"}, "neither 'pytorch' nor 'caffe'"),
        ({"depth": 18, "out_indices": (1, 4)}, "rising stages of 0 to 3"),
        ({"depth": 18, "out_indices": (2, 3), "num_stages": 3}, "rising stages of 0 to 2"),
        ({"depth": 18, "frozen_stages": 5}, "up to 4 stages"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(**arguments)


def _maps() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 4 * 2**k, 32 >> k, 48 >> k, generator=generator) for k in range(4)]


def _level_sizes(**arguments: object) -> list[tuple[int, ...]]:
    return [tuple(x.shape[1:]) for x in FPN((4, 8, 16, 32), 6, **arguments)(_maps())]


@pytest.mark.parametrize("mode", ["max_pool", "on_input", "on_lateral", "on_output"])
def test_extra_levels(mode: str) -> None:
    expected = [(6, 16, 24), (6, 8, 12), (6, 4, 6), (6, 2, 3), (6, 1, 2)]
    assert _level_sizes(num_outs=5, start_level=1, extra_levels=mode, relu_before_extra_convs=True) == expected


def test_end_level_and_odd_sizes() -> None:
    assert _level_sizes(num_outs=2, start_level=1, end_level=2) == [(6, 16, 24), (6, 8, 12)]
    odd = [torch.zeros(1, 4, 7, 11), torch.zeros(1, 8, 4, 6)]
    assert [tuple(x.shape[-2:]) for x in FPN((4, 8), 6, 2)(odd)] == [(7, 11), (4, 6)]


def test_sources_of_the_extra_levels_differ() -> None:
    """``on_lateral`` and ``on_output`` begin at the map before and after the last 3x3 convolution."""
    neck = FPN((4, 8, 16, 32), 6, 5, extra_levels="on_lateral")
    laterals = neck.lateral_convs[3](_maps()[3])
    torch.testing.assert_close(neck(_maps())[4], neck.fpn_convs[4](laterals))
    neck.extra_levels = "on_output"
    torch.testing.assert_close(neck(_maps())[4], neck.fpn_convs[4](neck.fpn_convs[3](laterals)))


@pytest.mark.parametrize(
    "arguments", [{"num_outs": 3}, {"num_outs": 3, "end_level": 1}, {"num_outs": 1, "start_level": 4}]
)
def test_impossible_levels_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match="FPN"):
        FPN((4, 8, 16, 32), 6, **arguments)


def test_grid_mask_blanks_squares_in_training_only() -> None:
    torch.manual_seed(3)
    mask, images = GridMask(probability=1.0), torch.ones(2, 3, 64, 96)
    assert torch.equal(mask.eval()(images), images)
    masked = mask.train()(images)
    assert 0.5 < float(masked.mean()) < 1 and set(masked.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(masked[0, 0].expand_as(masked), masked)
    kept = mask.draw(64, 96)
    rows, columns = kept.all(1), kept.all(0)
    assert bool(rows.any() and columns.any()) and torch.equal(kept, rows[:, None] | columns)
