"""BiFPN, ASFF, slim-neck, CARAFE in FPN, SSD's levels, and the layers of CSP networks: definitions and shapes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bev.models.backbones import CSPDarknet
from bev.models.backbones.csp_blocks import C2f, ELANLayer, GSConv
from bev.models.necks import ASFF, FPN, YOLOXPAFPN, BiFPN, SSDNeck
from bev.models.necks.bifpn import WeightedFusion, halve
from bev.models.necks.ssd_neck import ChannelNorm
from bev.ops.carafe import _carafe_reference


def maps_of(channels: tuple[int, ...], height: int = 16, width: int = 24) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, height >> k, width >> k, generator=generator) for k, c in enumerate(channels)]


def assert_all_taught(module: nn.Module, levels: list[Tensor]) -> None:
    torch.stack([x.square().mean() for x in levels]).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters())


def test_fast_fusion_by_hand() -> None:
    """Weights 3, 1 and -5: shares 3/4, 1/4 (up to the 1e-4 of the definition) and none."""
    fusion = WeightedFusion(2, 3).eval()
    fusion.weights.data = torch.tensor([3.0, 1.0, -5.0])
    torch.testing.assert_close(fusion.shares(), torch.tensor([3.0, 1.0, 0.0]) / 4.0001)
    maps = [torch.randn(1, 2, 3, 3) for _ in range(3)]
    expected = fusion.conv(F.silu((3 * maps[0] + maps[1]) / 4.0001))
    torch.testing.assert_close(fusion(maps), expected)


def test_halving_pads_as_tensorflow_does() -> None:
    """Of four pixels the windows begin at 0 and 2; of five at -1, 1 and 3."""
    row = torch.tensor([5.0, 1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 5)
    assert halve(row[..., :4])[0, 0, 0].tolist() == [5.0, 3.0]
    assert halve(row)[0, 0, 0].tolist() == [5.0, 3.0, 4.0]


def test_bifpn() -> None:
    torch.manual_seed(0)
    neck, maps = BiFPN((6, 10, 12), 8, layers=2), []
    for channels, size in ((6, (18, 25)), (10, (9, 13)), (12, (5, 7))):
        maps.append(torch.randn(2, channels, *size))
    levels = neck(maps)
    assert [tuple(x.shape) for x in levels] == [(2, 8, *s) for s in ((18, 25), (9, 13), (5, 7), (3, 4), (2, 2))]
    assert_all_taught(neck, levels)
    # Information runs both ways: the coarsest level moves the finest and the other way round.
    neck.eval()
    with torch.no_grad():
        before = neck(maps)
        for moved in (0, 2):
            after = neck([x + (k == moved) for k, x in enumerate(maps)])
            assert all(float((a - b).abs().max()) > 0 for a, b in zip(after, before))
    with pytest.raises(ValueError, match="cannot make 2 levels"):
        BiFPN((6, 10, 12), 8, num_outs=2)


def test_asff_mixes_by_shares() -> None:
    torch.manual_seed(0)
    neck, maps = ASFF((4, 8, 16), out_channels=6), maps_of((4, 8, 16))
    levels = neck(maps)
    assert [tuple(x.shape) for x in levels] == [(2, 6, 16, 24), (2, 6, 8, 12), (2, 6, 4, 6)]
    assert_all_taught(neck, levels)
    fusion = neck.fusions[1].eval()
    resized = [resize(x, (8, 12)) for resize, x in zip(fusion.resize, maps)]
    assert resized[1] is maps[1]
    torch.testing.assert_close(fusion.shares(resized).sum(1), torch.ones(2, 8, 12))
    # One level alone: where its share is all, the result is that level's.
    fusion.weigh.weight.data.zero_()
    fusion.weigh.bias.data = torch.tensor([0.0, 0.0, 50.0])
    torch.testing.assert_close(fusion(maps, (8, 12)), fusion.expand(resized[2]))


def test_asff_on_top_of_another_neck() -> None:
    neck = ASFF((8, 16, 32), 8, neck=YOLOXPAFPN((8, 16, 32), 0.33))
    levels = neck(maps_of((8, 16, 32)))
    assert [x.shape[1] for x in levels] == [8, 8, 8]
    assert_all_taught(neck, levels)


def test_ghostly_half_is_the_dense_halfs_and_channels_take_turns() -> None:
    torch.manual_seed(0)
    conv, x = GSConv(6, 8, 3, 2).eval(), torch.randn(1, 6, 9, 8)
    dense = conv.conv1(x)
    both = torch.cat([dense, conv.conv2(dense)], 1)
    result = conv(x)
    assert tuple(result.shape) == (1, 8, 5, 4)
    torch.testing.assert_close(result, both[:, [0, 2, 4, 6, 1, 3, 5, 7]])
    # About half of a plain convolution's weights.
    assert conv.conv1.conv.weight.numel() == 6 * 4 * 9 and conv.conv2.conv.weight.numel() == 4 * 25


@pytest.mark.parametrize("block", ["csp", "c2f", "elan", "gsconv"])
def test_layers_stand_for_each_other(block: str) -> None:
    torch.manual_seed(0)
    net, neck = CSPDarknet(0.33, 0.125, block=block), YOLOXPAFPN((32, 64, 128), 0.33, block=block)
    levels = neck(net(torch.randn(2, 3, 64, 96)))
    assert [tuple(x.shape[1:]) for x in levels] == [(32, 8, 12), (64, 4, 6), (128, 2, 3)]
    assert_all_taught(nn.ModuleList([net, neck]), levels)


def test_c2f_and_elan_join_every_step() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 5, 5)
    layer = C2f(4, 8, 2, shortcut=True).eval()
    first, second = layer.conv1(x).chunk(2, 1)
    third = second + layer.m[0].conv2(layer.m[0].conv1(second))
    fourth = third + layer.m[1].conv2(layer.m[1].conv1(third))
    torch.testing.assert_close(layer(x), layer.conv2(torch.cat([first, second, third, fourth], 1)))
    assert layer.m[0].conv1.conv.kernel_size == (3, 3)
    elan = ELANLayer(4, 8, 3, steps=2, convs=2).eval()
    short, long = elan.conv1(x), elan.conv2(x)
    once = elan.m[0](long)
    torch.testing.assert_close(elan(x), elan.conv3(torch.cat([short, long, once, elan.m[1](once)], 1)))
    with pytest.raises(ValueError, match="block 'c4' is not one of"):
        CSPDarknet(0.33, 0.125, block="c4")


def test_carafe_in_the_pyramid() -> None:
    """The finer level is its lateral map plus the coarse one by the reference reassembly, also of odd sizes."""
    torch.manual_seed(0)
    neck, maps = FPN((4, 8), 6, 2, upsample="carafe"), [torch.randn(2, 4, 9, 11), torch.randn(2, 8, 5, 6)]
    assert {"upsamples.0.channel_compressor.weight", "upsamples.0.content_encoder.bias"} <= set(neck.state_dict())
    nn.init.normal_(neck.upsamples[0].content_encoder.weight)
    coarse = neck.lateral_convs[1](maps[1])
    up = neck.upsamples[0]
    shares = F.pixel_shuffle(up.content_encoder(up.channel_compressor(coarse)), 2).softmax(1)
    fine = neck.lateral_convs[0](maps[0]) + _carafe_reference(coarse, shares, 5, 2)[..., :9, :11]
    levels = neck(maps)
    torch.testing.assert_close(levels[0], neck.fpn_convs[0](fine), atol=1e-5, rtol=1e-5)
    assert_all_taught(neck, levels)
    with pytest.raises(ValueError, match="neither 'nearest' nor 'carafe'"):
        FPN((4, 8), 6, 2, upsample="bilinear")


def test_levels_of_ssd() -> None:
    with torch.device("meta"):
        neck = SSDNeck()
        levels = neck([torch.zeros(1, 512, 38, 38), torch.zeros(1, 1024, 19, 19)])
    assert [x.shape[-1] for x in levels] == [38, 19, 10, 5, 3, 1]
    assert [x.shape[1] for x in levels] == [512, 1024, 512, 256, 256, 256]
    norm = ChannelNorm(2)
    point = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(norm(point).flatten(), torch.tensor([12.0, 16.0]))  # 20 times the unit vector
    with pytest.raises(ValueError, match="SSDNeck"):
        SSDNeck((512, 1024), (512, 512, 256), (2,))
