"""ResNet and FPN: names, freezing, strides, levels of every mode, bad arguments."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bev.models.backbones import ResNet
from bev.models.context_blocks import SE, ContextBlock, GlobalContext, NonLocal, NonLocalBlock, SqueezeExcitation
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


@pytest.mark.parametrize("depth", [18, 50])
def test_dilated_stages_keep_the_resolution(depth: int) -> None:
    options = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    with torch.device("meta"):
        net, contracted = ResNet(depth, **options), ResNet(depth, **options, contract_dilation=True)
        maps = net(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape[2:]) for x in maps] == [(16, 24), (8, 12), (8, 12), (8, 12)]
    name = "conv1" if depth == 18 else "conv2"
    found = [[getattr(b, name).dilation[0] for b in layer][:2] for layer in (net.layer3, net.layer4)]
    assert found == [[2, 2], [4, 4]]
    assert [getattr(contracted.layer4[i], name).dilation[0] for i in (0, 1)] == [2, 4]
    assert getattr(contracted.layer3[0], name).dilation[0] == 1
    with pytest.raises(ValueError, match="strides .* must be 4 numbers"):
        ResNet(depth, strides=(1, 2, 2))


def test_a_dilated_stage_computes_what_the_strided_one_does() -> None:
    """Every second pixel of the dilated stage is the strided stage's map, away from the border."""
    torch.manual_seed(0)
    strided, dilated = (
        ResNet(50, base_channels=8, num_stages=2, out_indices=(1,), stage_blocks=(1, 2), strides=s, dilations=d).eval()
        for s, d in (((1, 2), (1, 1)), ((1, 1), (1, 2)))
    )
    dilated.load_state_dict(strided.state_dict())
    dilated.layer2[0].conv2.dilation = dilated.layer2[0].conv2.padding = (1, 1)  # strides act after the first 3x3
    image = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(dilated(image)[0][..., ::2, ::2], strided(image)[0], atol=1e-5, rtol=1e-4)


def test_attention_plugins_begin_as_nothing_and_have_published_names() -> None:
    torch.manual_seed(0)
    plugins = (GlobalContext(ratio=0.25), NonLocal(stages=(False, False, True, False)))
    plain, net = ResNet(18, base_channels=8).eval(), ResNet(18, base_channels=8, plugins=plugins).eval()
    missing, unexpected = net.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(".context_block." in n or ".nonlocal_block." in n for n in missing)
    names = {
        "layer2.0.context_block.conv_mask.weight",
        "layer4.1.context_block.channel_add_conv.1.weight",
        "layer3.1.nonlocal_block.theta.conv.bias",
        "layer3.0.nonlocal_block.conv_out.bn.weight",
    }
    assert names <= set(missing) and not any(n.startswith("layer1") for n in missing)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(net(image), plain(image)):
            torch.testing.assert_close(ours, theirs)
    squeezed = ResNet(50, base_channels=8, plugins=(SE(), SE(position="after_conv1")), num_stages=1, out_indices=(0,))
    assert squeezed.layer1[0].se.fc1.in_channels == 32 and squeezed.layer1[0].se2.fc1.in_channels == 8
    assert squeezed(image)[0].shape == (2, 32, 16, 16)
    with pytest.raises(ValueError, match="is not after_conv1, 2 or 3"):
        SE(position="before")


def _loops(block: NonLocalBlock | ContextBlock, x: torch.Tensor) -> torch.Tensor:
    """Place by place, as the papers write it."""
    places, result = x[0].flatten(1).T, x.clone()[0].flatten(1)
    if isinstance(block, ContextBlock):
        weight = (places @ block.conv_mask.weight.flatten() + block.conv_mask.bias).exp()
        context = (places * weight[:, None]).sum(0) / weight.sum()
        return x + block.channel_add_conv(context.view(1, -1, 1, 1))
    theta, phi, g = (
        places @ part.conv.weight.flatten(1).T + part.conv.bias for part in (block.theta, block.phi, block.g)
    )
    for i in range(len(places)):
        weight = torch.stack([torch.exp(theta[i] @ phi[j] * block.scale) for j in range(len(places))])
        gathered = (g * weight[:, None]).sum(0) / weight.sum()
        result[:, i] += block.conv_out(gathered.view(1, -1, 1, 1)).flatten()
    return result.view_as(x)


@pytest.mark.parametrize("kind", [ContextBlock, NonLocalBlock])
def test_context_blocks_by_loops(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    block = kind(8, 0.5 if kind is ContextBlock else 2).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(1, 8, 3, 4)
    with torch.no_grad():
        torch.testing.assert_close(block(x), _loops(block, x), atol=1e-4, rtol=1e-4)


def test_squeeze_excitation_by_hand() -> None:
    """Means 1 and 3; the second channel's factor is the sigmoid of the sum of both, the first one's one half."""
    block = SqueezeExcitation(2, 1)
    for name, weight in (("fc1", [[1.0, 1.0]]), ("fc2", [[0.0], [1.0]])):
        getattr(block, name).weight.data = torch.tensor(weight)[..., None, None]
        nn.init.zeros_(getattr(block, name).bias)
    x = torch.tensor([[[[0.0, 2.0]], [[2.0, 4.0]]]])
    factor = torch.tensor([0.5, torch.tensor(4.0).sigmoid()]).view(1, 2, 1, 1)
    torch.testing.assert_close(block(x), x * factor)
