"""Training with the rounding of int8: what is rounded, what is saved, and that the exported graph computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bev.deploy import Exportable
from bev.deploy.build import load_detector
from bev.deploy.export import to_onnx
from bev.deploy.quantize import OutputError, Quantized, Recipe
from bev.engine import load_config, prepare, train
from bev.engine.hooks.quantization import round_layer
from bev.engine.runner import Runner
from bev.models.strided_conv import SparsePointwise2d
from bev.ops.fake_quantize import LEVELS, fake_quantize, fake_quantize_channels
from bev.registry import ConfigError
from tests.engine.pictures import squares_config, write_squares
from tests.engine.runs import CONFIG, assert_same_state, last, run_here
from tests.engine.test_averaging import StopAfter
from tests.engine.toy import ToyDetector

SHORT = ("train_cfg.max_steps=8", "train_cfg.val_interval=0", "optim_wrapper.optimizer.lr=0.01")
HOOK = {"type": "QuantizationHook", "batches": 2}


def test_numbers_are_rounded_as_the_graph_does() -> None:
    x = torch.tensor([-9.0, -1.27, -0.004, 0.0049, 0.0151, 1.27, 3.0], requires_grad=True)
    y = fake_quantize(x, torch.tensor(1.27))
    torch.testing.assert_close(y, torch.tensor([-1.27, -1.27, 0.0, 0.0, 0.02, 1.27, 1.27]))
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]
    weight = torch.randn(4, 3, 3, 3) * torch.tensor([1e-3, 1.0, 50.0, 0.0]).view(4, 1, 1, 1)
    rounded = fake_quantize_channels(weight)
    for row, exact in zip(rounded[:3], weight[:3]):
        steps = row / (exact.abs().max() / LEVELS)
        torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
        step = exact.abs().max() / LEVELS
        assert steps.abs().max().round() == LEVELS and (row - exact).abs().max() <= 0.505 * step
    assert not rounded[3].any()


def test_folding_a_norm_changes_no_integer() -> None:
    """What is rounded before a batch norm in training is what the folded graph rounds."""
    weight, factor = torch.randn(8, 4, 3, 3), torch.tensor([0.3, -2.0, 7.0, 1e-3, 1, 5, -0.1, 11]).view(8, 1, 1, 1)
    torch.testing.assert_close(fake_quantize_channels(weight) * factor, fake_quantize_channels(weight * factor))


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 6, 3), nn.Linear(4, 6), nn.ConvTranspose2d(4, 6, 2), SparsePointwise2d(4, 6, 2)]
)
def test_every_kind_of_layer_reads_rounded_weights(layer: Any) -> None:
    x = torch.randn(2, 5, 4) if isinstance(layer, nn.Linear) else torch.randn(2, 4, 8, 8)
    names, exact = set(layer.state_dict()), layer(x).detach()
    round_layer(layer, torch.tensor(2.0))
    rounded = layer(x)
    assert set(layer.state_dict()) == names and 1e-4 < (rounded - exact).abs().max() < 0.5 * exact.abs().max() + 0.5
    rounded.sum().backward()
    assert layer._parameters["weight"].grad.abs().sum() > 0


def test_a_run_saves_plain_weights_and_thresholds(tmp_path: Path) -> None:
    state = run_here(tmp_path, *SHORT, f"custom_hooks={[HOOK, {'type': 'EMAHook', 'decay': 0.9}]}")
    ToyDetector().load_state_dict(state["state_dict"])
    ToyDetector().load_state_dict(state["ema_state_dict"])
    assert set(state["quantization"]) == {"backbone", "head"}
    assert 0.2 < float(state["quantization"]["backbone"]) <= 1.0, "images are within -1..1"
    plain = run_here(tmp_path / "plain", *SHORT)
    assert not torch.equal(plain["state_dict"]["head.weight"], state["state_dict"]["head.weight"])


def test_a_resumed_run_rounds_the_same(tmp_path: Path) -> None:
    options = (*SHORT, "model.dropout=0.3", f"custom_hooks={[HOOK]}")
    whole = run_here(tmp_path / "whole", *options)
    runner = Runner(prepare(load_config(CONFIG, options), str(tmp_path / "cut")))
    runner.register_hook(StopAfter(3))
    runner.train()
    again = run_here(tmp_path / "cut", *options, resume=True)
    assert_same_state(whole, again)
    assert all(torch.equal(again["quantization"][n], v) for n, v in whole["quantization"].items())


def test_mistakes_are_named(tmp_path: Path) -> None:
    for change, message in (({"keep": ["*"]}, "no layer of ToyDetector"), ({"batches": 0}, "batches 0")):
        with pytest.raises(ConfigError, match=message):
            run_here(tmp_path, *SHORT, f"custom_hooks={[{**HOOK, **change}]}")


def test_the_exported_graph_computes_what_was_trained(tmp_path: Path) -> None:
    """A dense detector with batch norms: its QDQ graph against the rounded network in torch, output by output."""
    pytest.importorskip("onnxscript")
    cfg = squares_config(write_squares(tmp_path / "squares"))
    cfg.custom_hooks, cfg.train_cfg = [HOOK], {"max_steps": 3, "val_interval": 0}
    assert train(prepare(cfg, str(tmp_path / "run"))) == 0
    limits = {name: float(value) for name, value in last(tmp_path / "run")["quantization"].items()}
    model: Any = load_detector(cfg, tmp_path / "run")
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    exported = to_onnx(Exportable(model, images, None, {}).graph())
    frame = {"images": images.numpy()}
    quantized = Quantized(exported.model_proto, Recipe(residual_adds=False), [frame], known=limits)
    assert len(quantized.layers) == len(limits)
    error = OutputError(quantized, [frame])
    graph = error._outputs(quantized.graph())[0]
    for name, part in model.named_modules():
        if name in limits:
            round_layer(part, torch.tensor(limits[name]))
    with torch.no_grad():
        trained = model(images)
    near, far = [], []
    for name, value in graph.items():
        same = [m.numpy() for kind in trained.values() for m in kind if tuple(m.shape) == value.shape]
        wanted = min(same, key=lambda m: np.abs(m - value).max())  # box and class maps may have one shape
        near.append(float(((value - wanted) ** 2).sum() / (wanted**2).sum()))
        far.append(float(((error.reference[0][name] - wanted) ** 2).sum() / (wanted**2).sum()))
    assert len(near) == 9 and max(near) < 0.1 * max(far), (near, far)
