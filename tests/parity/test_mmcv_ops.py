"""Operators against compiled mmcv 2.1 (golden item mmcv_ops): shapes and options come from the files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bev.ops.deformable_attention import multi_scale_deformable_attention
from tests.parity.golden import Golden
from tests.paths import golden_cases

pytestmark = pytest.mark.parametrize("path", golden_cases("mmcv_ops"), ids=lambda p: p.stem)


def test_multi_scale_deformable_attention(path: Path) -> None:
    golden = Golden(path)
    name = "multi_scale_deformable_attn"
    inputs = golden.group(f"in.{name}")
    leaves = {k: inputs[k].requires_grad_() for k in ("value", "sampling_locations", "attention_weights")}
    value, locations, weights = leaves.values()
    result = multi_scale_deformable_attention(value, inputs["spatial_shapes"], locations, weights)
    torch.testing.assert_close(result, golden[f"out.{name}.0"], atol=2e-5, rtol=1e-5)
    result.backward(inputs["grad_out"])
    for key, gradient in golden.group(f"grad.{name}").items():
        torch.testing.assert_close(leaves[key].grad, gradient, atol=5e-5, rtol=1e-5)
