"""camera_sampling against its reference: values, gradients, layouts, edges, export."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bev.ops import camera_sampling as module
from bev.ops.camera_sampling import camera_sampling

IMAGE = (64, 96)
SHAPES = ((8, 12), (4, 6), (1, 1))


def _inputs(seed: int = 0, dtype: torch.dtype = torch.float64, table: bool = True, batch: int = 2, cameras: int = 3):
    g = torch.Generator().manual_seed(seed)
    queries, points, channels = 7, 2, 5
    features = []
    for height, width in SHAPES:
        maps = torch.randn(batch, cameras, channels, height, width, generator=g, dtype=dtype)
        if table:
            maps = maps.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        features.append(maps)
    pixels = torch.rand(batch, cameras, queries, points, 2, generator=g, dtype=dtype)
    pixels = pixels * torch.tensor([IMAGE[1], IMAGE[0]], dtype=dtype) * 1.2 - 8
    visible = torch.rand(batch, cameras, queries, points, generator=g) < 0.5
    weights = torch.randn(batch, queries, cameras, points, len(SHAPES), generator=g, dtype=dtype)
    return features, pixels, visible, weights


def _leaves(inputs: tuple) -> list[Tensor]:
    features, pixels, _, weights = inputs
    return [tensor.requires_grad_() for tensor in (*features, pixels, weights)]


def _reference(features, pixels, visible, weights):
    return module._camera_sampling_reference(features, pixels, visible, weights, IMAGE)


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("form", ["fast", "export"])
def test_value_and_gradients_equal_the_reference(form: str, table: bool) -> None:
    function = camera_sampling if form == "fast" else module._camera_sampling_export
    ours, theirs = _inputs(table=table), _inputs(table=table)
    assert (module._table(ours[0][0]) is not None) is table
    leaves, other = _leaves(ours), _leaves(theirs)
    result, expected = function(*ours, IMAGE), _reference(*theirs)
    torch.testing.assert_close(result, expected)
    result.square().sum().backward()
    expected.square().sum().backward()
    for leaf, reference in zip(leaves, other):
        torch.testing.assert_close(leaf.grad, reference.grad)


def test_gradcheck_and_opcheck() -> None:
    features, pixels, visible, weights = _inputs(batch=1, cameras=2)
    leaves = _leaves((features, pixels, visible, weights))
    assert torch.autograd.gradcheck(lambda *x: camera_sampling(x[:-2], x[-2], visible, x[-1], IMAGE), leaves)
    torch.library.opcheck(torch.ops.bev.camera_sampling.default, (features, pixels, visible, weights, *IMAGE))


def test_points_on_borders_and_on_cell_edges() -> None:
    features, _, _, _ = _inputs()
    pixels = torch.tensor([[0, 0], [96, 64], [8, 8], [95.999, 0.001], [48, 32], [4, 4], [-8, 70]], dtype=torch.float64)
    pixels = pixels[None, None, :, None].expand(2, 3, -1, 2, -1).contiguous()
    visible = torch.ones(2, 3, 7, 2, dtype=torch.bool)
    weights = torch.ones(2, 7, 3, 2, 3, dtype=torch.float64)
    inputs = (features, pixels, visible, weights)
    torch.testing.assert_close(camera_sampling(*inputs, IMAGE), _reference(*inputs))
    torch.testing.assert_close(module._camera_sampling_export(*inputs, IMAGE), _reference(*inputs))


def test_nothing_visible_gives_zeros_and_zero_gradients() -> None:
    features, pixels, visible, weights = _inputs()
    leaves = _leaves((features, pixels, visible, weights))
    result = camera_sampling(features, pixels, torch.zeros_like(visible), weights, IMAGE)
    result.sum().backward()
    assert not result.any() and all(not leaf.grad.any() for leaf in leaves)


@pytest.mark.parametrize("form", ["fast", "reference", "export"])
def test_what_is_not_seen_cannot_leak(form: str) -> None:
    features, pixels, visible, weights = _inputs()
    visible[:, 1] = False
    expected = _reference(features, pixels, visible, weights)
    for feature in features:
        feature[:, 1] = torch.nan
    pixels[:, 1] = torch.tensor([torch.nan, torch.inf])
    names = {"fast": camera_sampling, "reference": module._camera_sampling_reference}
    if form == "export":  # reads cell 0 with weight 0, as every gather form does: finite features, wild coordinates
        for feature in features:
            feature[:, 1] = 1e9
    function = names.get(form, module._camera_sampling_export)
    torch.testing.assert_close(function(features, pixels, visible, weights, IMAGE), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("table", [True, False])
def test_half_precision_features_are_read_exactly(dtype: torch.dtype, table: bool) -> None:
    features, pixels, visible, weights = _inputs(dtype=torch.float32, table=table)
    half = [feature.to(dtype) for feature in features]
    leaves = [feature.requires_grad_() for feature in half]
    result = camera_sampling(half, pixels, visible, weights, IMAGE)
    result.sum().backward()
    expected = _reference([feature.detach().float() for feature in half], pixels, visible, weights)
    torch.testing.assert_close(result, expected)
    assert all(leaf.grad.dtype == dtype for leaf in leaves)


def test_empty_batch_of_queries() -> None:
    features, pixels, visible, weights = _inputs()
    assert camera_sampling(features, pixels[:, :, :0], visible[:, :, :0], weights[:, :0], IMAGE).shape == (2, 0, 5)


def test_wrong_shapes_are_named() -> None:
    features, pixels, visible, weights = _inputs()
    with pytest.raises(ValueError, match=r"weights has shape \(2, 7, 3, 2, 2\), expected \(2, 7, 3, 2, 3\)"):
        camera_sampling(features, pixels, visible, weights[..., :2], IMAGE)
    with pytest.raises(ValueError, match=r"features\[0\] has shape"):
        camera_sampling([f[:1] for f in features], pixels, visible, weights, IMAGE)


class _Sampler(torch.nn.Module):
    def forward(self, features: list[Tensor], pixels: Tensor, visible: Tensor, weights: Tensor) -> Tensor:
        return camera_sampling(features, pixels, visible, weights, IMAGE)


def test_export_uses_no_grid_sample_and_no_scatter() -> None:
    inputs = _inputs(dtype=torch.float32)
    program = torch.export.export(_Sampler(), inputs)
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any(word in name for name in names for word in ("grid_sampl", "scatter", "index_put", "nonzero", "bev."))
    torch.testing.assert_close(program.module()(*inputs), _reference(*inputs))
