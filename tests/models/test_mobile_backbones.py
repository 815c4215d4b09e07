"""RepVGG, MobileNet, ShuffleNet, EfficientNet's family, SSD's VGG: published sizes and names, strides, plain forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bev.models.backbones import (
    SSDVGG,
    EfficientNet,
    ESNet,
    LCNet,
    MobileNetV2,
    MobileNetV3,
    RepVGG,
    ShuffleNetV2,
)
from bev.models.backbones.repvgg import RepVGGBlock
from bev.models.backbones.shufflenet import shuffle_channels
from bev.models.reparam import concatenated, switch_to_deploy

# Millions with the ImageNet classifier: the authors' README (RepVGG, deploy form, cut off after two digits),
# torchvision, the papers' tables.
REPVGG = dict(a0=8.30, a1=12.78, a2=25.49, b0=14.33, b1=51.82, b1g2=41.36, b1g4=36.12, b2=80.31, b3=110.96)
EXACT = {
    "MobileNetV2": (lambda: MobileNetV2(num_classes=1000), 3_504_872),
    "MobileNetV3-large": (lambda: MobileNetV3("large", num_classes=1000), 5_483_032),
    "MobileNetV3-small": (lambda: MobileNetV3("small", num_classes=1000), 2_542_856),
    "ShuffleNetV2-0.5": (lambda: ShuffleNetV2(0.5, num_classes=1000), 1_366_792),
    "ShuffleNetV2-1.0": (lambda: ShuffleNetV2(1.0, num_classes=1000), 2_278_604),
    "ShuffleNetV2-1.5": (lambda: ShuffleNetV2(1.5, num_classes=1000), 3_503_624),
    "ShuffleNetV2-2.0": (lambda: ShuffleNetV2(2.0, num_classes=1000), 7_393_996),
}
EFFICIENT = dict(b1=7.79, b2=9.11, b3=12.23, b4=19.34, b5=30.39, b6=43.04, b7=66.35, lite1=5.4, lite2=6.1, lite3=8.2)


def millions(module: nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def randomise(module: nn.Module) -> nn.Module:
    """Norms as after training: statistics, factors and shifts that matter."""
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    return module.eval()


@pytest.mark.parametrize("variant", REPVGG)
def test_sizes_of_repvgg(variant: str) -> None:
    with torch.device("meta"):
        net = RepVGG(variant, num_classes=1000)
        trained = millions(net)
        assert switch_to_deploy(net) == sum(isinstance(m, RepVGGBlock) for m in net.modules())
    assert millions(net) == pytest.approx(REPVGG[variant], abs=0.0101) and trained > millions(net)


@pytest.mark.parametrize("name", EXACT)
def test_sizes_of_mobile_networks(name: str) -> None:
    build, expected = EXACT[name]
    with torch.device("meta"):
        net = build()
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize("variant", [*EFFICIENT, "lite4"])
def test_sizes_of_efficientnets(variant: str) -> None:
    with torch.device("meta"):
        net = EfficientNet(variant, num_classes=1000)
    expected = {**EFFICIENT, "lite4": 13.0}[variant]
    assert millions(net) == pytest.approx(expected, abs=0.006 if variant.startswith("b") else 0.051)


def test_published_names() -> None:
    with torch.device("meta"):
        v2, v3, shuffle = MobileNetV2(num_classes=2), MobileNetV3("small", num_classes=2), ShuffleNetV2(num_classes=2)
        rep, vgg = RepVGG("a0"), SSDVGG()
        es, lc = ESNet(), LCNet()
    assert {
        "features.0.0.weight",
        "features.0.1.running_var",
        "features.1.conv.0.0.weight",  # no expansion
        "features.1.conv.1.weight",
        "features.1.conv.2.bias",
        "features.2.conv.1.0.weight",
        "features.17.conv.3.running_mean",
        "features.18.1.weight",
        "classifier.1.weight",
    } <= set(v2.state_dict())
    assert {
        "features.1.block.1.fc1.weight",
        "features.4.block.2.fc2.bias",
        "features.2.block.0.1.weight",
        "features.11.block.3.0.weight",
        "features.12.0.weight",
        "classifier.0.weight",
        "classifier.3.bias",
    } <= set(v3.state_dict())
    assert {
        "conv1.0.weight",
        "stage2.0.branch1.2.weight",
        "stage2.0.branch2.5.weight",
        "stage4.3.branch2.6.bias",
        "conv5.1.running_mean",
        "fc.weight",
    } <= set(shuffle.state_dict())
    assert not any(name.startswith("stage2.1.branch1") for name in shuffle.state_dict())
    names = set(rep.state_dict())
    assert {"stage0.rbr_dense.conv.weight", "stage3.13.rbr_identity.bias", "stage4.0.rbr_1x1.bn.weight"} <= names
    switch_to_deploy(rep)
    assert {"stage0.rbr_reparam.weight", "stage4.0.rbr_reparam.bias"} <= set(rep.state_dict())
    assert not any("rbr_dense" in name or "bn" in name for name in rep.state_dict())
    assert {"features.0.weight", "features.21.bias", "features.31.weight"} <= set(vgg.state_dict())
    assert {
        "_conv1._conv.weight",
        "2_1._conv_dw_mv1._batch_norm.weight",
        "2_1._se.conv2.bias",
        "3_7._conv_linear._conv.weight",
        "4_3._conv_pw._batch_norm.running_mean",
    } <= set(es.state_dict())
    assert {
        "conv1.conv.weight",
        "blocks2.0.dw_conv.bn.weight",
        "blocks5.5.pw_conv.conv.weight",
        "blocks6.1.se.conv1.bias",
    } <= set(lc.state_dict())
    assert not any(name.startswith("blocks5.0.se") for name in lc.state_dict())


@pytest.mark.parametrize(
    "build, strides",
    [
        (lambda: MobileNetV2(0.5, (0, 1, 2, 3, 4)), (2, 4, 8, 16, 32)),
        (lambda: MobileNetV3("large", (0, 1, 2, 3, 4)), (2, 4, 8, 16, 32)),
        (lambda: MobileNetV3("small", (0, 1, 2, 3, 4)), (2, 4, 8, 16, 32)),
        (lambda: ShuffleNetV2(0.5, (0, 1, 2, 3)), (4, 8, 16, 32)),
        (lambda: ESNet(0.75, out_indices=(0, 1, 2, 3)), (4, 8, 16, 32)),
        (lambda: LCNet(0.35, (0, 1, 2, 3)), (4, 8, 16, 32)),
        (lambda: RepVGG("a0", (0, 1, 2, 3, 4), width=0.25), (2, 4, 8, 16, 32)),
        (lambda: EfficientNet("lite2", (0, 1, 2, 3, 4)), (2, 4, 8, 16, 32)),
        (lambda: SSDVGG(0.125), (8, 16)),
    ],
)
def test_maps_have_their_strides_and_channels(build, strides: tuple[int, ...]) -> None:
    with torch.device("meta"):
        net = build().eval()
        maps = net(torch.zeros(2, 3, 96, 130))
    assert [x.shape[1] for x in maps] == net.out_channels
    assert [tuple(x.shape[2:]) for x in maps] == [(-(-96 // s), -(-130 // s)) for s in strides]


def test_what_a_mobile_network_saw_it_classifies() -> None:
    """The maps are those that the classifier goes on from."""
    torch.manual_seed(0)
    net = MobileNetV3("small", (4,), num_classes=7).eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        last = net.features[-1](net(image)[0])
        torch.testing.assert_close(net.classifier(last.mean((2, 3))), net.classify(image))
        assert RepVGG("a0", width=0.25, num_classes=5).eval().classify(image).shape == (2, 5)
        assert ShuffleNetV2(0.5, num_classes=5).eval().classify(image).shape == (2, 5)


def test_shuffled_channels_take_turns() -> None:
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle_channels(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2]), st.sampled_from([1, 2, 4]), st.booleans(), st.booleans())
def test_one_convolution_is_the_three_branches(seed: int, stride: int, groups: int, same: bool, squeeze: bool) -> None:
    torch.manual_seed(seed)
    block = randomise(RepVGGBlock(16, 16 if same else 32, stride, groups, squeeze=squeeze))
    x = torch.randn(2, 16, 9, 7)
    with torch.no_grad():
        before = block(x)
        assert block.switch_to_deploy() and not block.switch_to_deploy()
        torch.testing.assert_close(block(x), before, atol=1e-5, rtol=1e-5)
    assert [name for name, _ in block.named_parameters() if "rbr" in name] == ["rbr_reparam.weight", "rbr_reparam.bias"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 3]), st.sampled_from([1, 2]), st.lists(st.booleans(), min_size=2))
def test_concatenated_convolutions_are_one(seed: int, size: int, stride: int, biases: list[bool]) -> None:
    torch.manual_seed(seed)
    convs = [nn.Conv2d(5, 3 + n, size, stride, size // 2, bias=bias) for n, bias in enumerate(biases[:4])]
    x = torch.randn(2, 5, 8, 9)
    with torch.no_grad():
        torch.testing.assert_close(concatenated(convs)(x), torch.cat([c(x) for c in convs], 1), atol=1e-5, rtol=1e-5)


def test_unlike_convolutions_stay_apart() -> None:
    with pytest.raises(ValueError, match="only like convolutions"):
        concatenated([nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1)])


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: RepVGG("a9"), "not one of a0"),
        (lambda: RepVGG("a0", (3, 2)), "rising stages"),
        (lambda: MobileNetV2(out_indices=(5,)), "rising maps of 0 to 4"),
        (lambda: MobileNetV3("medium"), "neither 'large' nor 'small'"),
        (lambda: ShuffleNetV2(0.75), "width 0.75 is not one of"),
    ],
)
def test_bad_arguments_are_named(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_frozen_stages_of_repvgg() -> None:
    net = RepVGG("a0", width=0.25, blocks=(1, 1, 1, 1), frozen_stages=1).train()
    assert not any(p.requires_grad for p in [*net.stage0.parameters(), *net.stage1.parameters()])
    assert all(p.requires_grad for p in net.stage2.parameters())
    assert not net.stage1[0].rbr_dense.bn.training and net.stage2[0].rbr_dense.bn.training
