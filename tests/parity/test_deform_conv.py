"""Deformable convolutions, with and without masks, against compiled mmcv 2.1 (golden item mmcv_ops)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bev.ops.deform_conv import deform_conv2d
from tests.parity.golden import Golden
from tests.paths import golden_cases


@pytest.mark.parametrize("name", [v + k for v in ("modulated_deform_conv2d_", "deform_conv2d_") for k in "ab"])
@pytest.mark.parametrize("path", golden_cases("mmcv_ops"), ids=lambda p: p.stem)
def test_mmcv_numbers(path: Path, name: str) -> None:
    golden = Golden(path)
    inputs = golden.group(f"in.{name}")
    config = {k: v for k, v in golden.config[name].items() if k != "deform_groups"}
    names = ("input", "offset", "mask", "weight", "bias")
    leaves = {k: inputs[k].requires_grad_() for k in names if k in inputs}
    result = deform_conv2d(*(leaves.get(k) for k in names), **config)
    torch.testing.assert_close(result, golden[f"out.{name}.0"], atol=2e-5, rtol=1e-5)
    result.backward(inputs["grad_out"])
    for key, gradient in golden.group(f"grad.{name}").items():
        torch.testing.assert_close(leaves[key].grad, gradient, atol=5e-5, rtol=1e-5)
