"""The table of exported graphs: rows are kept and replaced, empty cells have a reason; weights that behave."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.export_table import load, save
from benchmarks.weights import RESIDUAL_GAIN, like_trained
from bev.models.backbones import ResNet

pytest.importorskip("onnxruntime")


def test_rows_are_kept_and_what_is_missing_is_told(tmp_path: Path) -> None:
    row = {"case": "b", "image": "64x64", "boxes": 7, "unmatched": 0, "raw": 2e-6, "raw_output": "cls"}
    row["onnx_ms"] = 1234.4
    save(tmp_path, {**row, "reasons": {"rtx": "not installed"}}, ("a", "b", "c"))
    save(tmp_path, {**row, "case": "c", "rtx": "yes", "float64": {"torch": 1e-6, "onnx": 2e-6}}, ("a", "b", "c"))
    save(tmp_path, {**row, "boxes": 8, "reasons": {"rtx": "not installed"}}, ("a", "b", "c"))
    assert set(load(tmp_path)) == {"b", "c"} and load(tmp_path)["b"]["boxes"] == 8 and load(tmp_path / "none") == {}
    lines = (tmp_path / "export.md").read_text().splitlines()
    cells = {name: next(line for line in lines if line.startswith(f"| {name} |")) for name in "abc"}
    assert "8, 0" in cells["b"] and "2.0e-06 (`cls`)" in cells["b"] and "1,234" in cells["b"]
    assert cells["c"].endswith("| yes |") and "1.0e-06, 2.0e-06" in cells["c"] and set(cells["a"]) == set("| a")
    assert "* TensorRT-RTX builds: not installed (b)" in lines
    assert any("not measured yet" in line and line.endswith("(a)") for line in lines)


def test_weights_like_trained_ones() -> None:
    """Statistics are those of the example; the last norm of every block is quiet."""
    torch.manual_seed(0)
    net, x = ResNet(18, base_channels=8, norm_eval=False), torch.randn(2, 3, 64, 64) * 3 + 1
    like_trained(net, lambda: net(x))
    assert not net.training and net.bn1.momentum == 1.0
    torch.testing.assert_close(net.bn1.running_mean, net.conv1(x).mean((0, 2, 3)), atol=1e-5, rtol=1e-5)
    gains = [block.bn2.weight for stage in (net.layer1, net.layer4) for block in stage]  # type: ignore[union-attr]
    assert all(torch.equal(gain, torch.full_like(gain, RESIDUAL_GAIN)) for gain in gains)
