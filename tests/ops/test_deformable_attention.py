"""multi_scale_deformable_attention against its reference: values, gradients, edges, half precision, export."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bev.ops import deformable_attention as module
from bev.ops.deformable_attention import multi_scale_deformable_attention

SHAPES = [(5, 7), (3, 4), (1, 1)]


def _inputs(dtype: torch.dtype = torch.float64, queries: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    pixels = sum(h * w for h, w in SHAPES)
    value = torch.randn(2, pixels, 3, 4, generator=g, dtype=dtype)
    locations = torch.rand(2, queries, 3, len(SHAPES), 2, 2, generator=g, dtype=dtype) * 1.4 - 0.2
    weights = torch.randn(2, queries, 3, len(SHAPES), 2, generator=g, dtype=dtype)
    return value, locations, weights


def _run(form: str, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    heights, widths = [h for h, _ in SHAPES], [w for _, w in SHAPES]
    if form == "fast":
        return multi_scale_deformable_attention(value, SHAPES, locations, weights)
    return {"plain": module._attention_reference, "export": module._attention_export}[form](
        value, heights, widths, locations, weights
    )


@pytest.mark.parametrize("form", ["fast", "export"])
def test_value_and_gradients_equal_the_reference(form: str) -> None:
    leaves = [x.requires_grad_() for x in _inputs()]
    result, expected = _run(form, *leaves), _run("plain", *leaves)
    torch.testing.assert_close(result, expected)
    weight = torch.randn_like(expected)
    for ours, plain in zip(torch.autograd.grad(result, leaves, weight), torch.autograd.grad(expected, leaves, weight)):
        torch.testing.assert_close(ours, plain)


def test_gradcheck_and_opcheck() -> None:
    leaves = [x.requires_grad_() for x in _inputs(queries=2)]
    assert torch.autograd.gradcheck(lambda *x: multi_scale_deformable_attention(x[0], SHAPES, *x[1:]), leaves)
    value, locations, weights = leaves
    arguments = (value, [h for h, _ in SHAPES], [w for _, w in SHAPES], locations, weights)
    torch.library.opcheck(torch.ops.bev.multi_scale_deformable_attention.default, arguments)


def test_corners_of_the_map_and_beyond() -> None:
    """Shares 0 and 1 are the map's borders, half a cell outside the outer centres; far and infinite points read 0."""
    value = torch.arange(1.0, 7.0, dtype=torch.float64).view(1, 6, 1, 1)  # a 2 x 3 map of 1..6
    xy = torch.tensor([[0, 0], [1, 1], [0.5, 0.25], [-9, 0.5], [1e30, -1e30], [float("inf"), 0.5]], dtype=torch.float64)
    locations, weights = xy.view(1, 6, 1, 1, 1, 2), torch.ones(1, 6, 1, 1, 1, dtype=torch.float64)
    result = multi_scale_deformable_attention(value, torch.tensor([[2, 3]]), locations, weights)
    assert result.flatten().tolist() == [0.25, 1.5, 2.0, 0.0, 0.0, 0.0]


def test_not_a_number_stays_in_its_query() -> None:
    value, locations, weights = _inputs()
    expected = multi_scale_deformable_attention(value, SHAPES, locations, weights)
    locations[0, 1, 2, 0, 0, 0] = float("nan")
    result = multi_scale_deformable_attention(value, SHAPES, locations, weights)
    assert result[0, 1, 8:].isnan().all()
    result[0, 1, 8:] = expected[0, 1, 8:]
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(dtype: torch.dtype) -> None:
    value, locations, weights = (x.to(dtype) for x in _inputs())
    exact = _run("plain", value.double(), locations.double(), weights.double())
    result = multi_scale_deformable_attention(value, SHAPES, locations, weights)
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-5)


def test_non_contiguous_inputs() -> None:
    value, locations, weights = _inputs()
    expected = multi_scale_deformable_attention(value, SHAPES, locations, weights)
    strided = [torch.stack([x, x], -1)[..., 0] for x in (value, locations, weights)]
    assert not any(x.is_contiguous() for x in strided)
    leaves = [x.requires_grad_() for x in strided]
    result = multi_scale_deformable_attention(leaves[0], SHAPES, *leaves[1:])
    torch.testing.assert_close(result, expected)
    result.sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


@pytest.mark.parametrize("batch, queries", [(0, 3), (2, 0)])
def test_nothing_to_sample(batch: int, queries: int) -> None:
    value, locations, weights = _inputs()
    cut = value, locations[:, :queries], weights[:, :queries]
    value, locations, weights = (x[:batch].requires_grad_() for x in cut)
    result = multi_scale_deformable_attention(value, SHAPES, locations, weights)
    assert result.shape == (batch, queries, 12)
    result.sum().backward()


def test_export_has_no_grid_sample() -> None:
    class Attention(torch.nn.Module):
        def forward(self, *x: Tensor) -> Tensor:
            return multi_scale_deformable_attention(x[0], SHAPES, x[1], x[2])

    inputs = _inputs(torch.float32)
    program = torch.export.export(Attention(), inputs)
    assert not any("grid_sampl" in str(n.target) or "embedding" in str(n.target) for n in program.graph.nodes)
    torch.testing.assert_close(program.module()(*inputs), _run("plain", *inputs), atol=1e-5, rtol=1e-5)


def test_wrong_shapes_are_named() -> None:
    value, locations, weights = _inputs()
    with pytest.raises(ValueError, match="do not add up to 48 rows"):
        multi_scale_deformable_attention(value, SHAPES[:2], locations, weights)
    with pytest.raises(ValueError, match="attention_weights has shape"):
        multi_scale_deformable_attention(value, SHAPES, locations, weights[..., 0])
