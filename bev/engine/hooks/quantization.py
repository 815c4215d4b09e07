"""Quantisation-aware training: the network learns with the rounding of its later int8 graph."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from bev.engine import distributed, random_state
from bev.engine.data import stream
from bev.ops.fake_quantize import fake_quantize, fake_quantize_channels, threshold_of_least_error
from bev.registry import HOOKS, ConfigError

_KINDS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_BINS = 2048


@HOOKS.register_module()
class QuantizationHook(Hook):
    """Rounds the inputs and weights of convolutions and linear layers to int8 in every forward pass from the start on.

    Thresholds of the inputs are chosen on training batches before the first step (least squared error) and kept; scales
    of the weights follow the weights. Parameters keep their names, validation sees the rounded network, and checkpoints
    hold plain weights and the thresholds (``quantization``), which ``tools/export.py --precision int8`` then uses.

    Start it from a trained checkpoint (``load_from``) with a small rate, and hold batch norms still
    (``frozen_norms=[""]``): the exported graph has their statistics folded into its weights.

    Args:
        batches: training batches that thresholds are chosen on.
        keep: patterns (``fnmatch``) of modules that are not rounded.

    Raises:
        ConfigError: nothing is left to round.
    """

    priority = "ABOVE_NORMAL"

    def __init__(
        self,
        batches: int = 8,
        keep: Sequence[str] = ("*sampling_offsets*", "*reference_points*", "*attention_weights*"),
    ) -> None:
        if batches < 1:
            raise ConfigError(f"QuantizationHook: batches {batches} must be at least 1")
        self.batches, self.keep = batches, tuple(keep)
        self.limits: dict[str, Tensor] = {}

    def before_train(self, runner: Any) -> None:
        """Choose thresholds, unless the checkpoint has them. Raises ConfigError: it lacks some layer's."""
        layers = rounded_layers(runner.detector, self.keep)
        if not self.limits:
            self.limits = self._choose(runner, layers)
        missing = set(layers) - set(self.limits)
        if missing:
            raise ConfigError(f"QuantizationHook: the checkpoint has no thresholds of {', '.join(sorted(missing)[:3])}")
        for name, layer in layers.items():
            round_layer(layer, self.limits[name])

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["quantization"] = {name: value.clone() for name, value in self.limits.items()}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        self.limits = dict(checkpoint.get("quantization") or {})

    def _choose(self, runner: Any, layers: dict[str, nn.Module]) -> dict[str, Tensor]:
        """Thresholds on the run's first batches; without a trace in the random numbers."""
        state = random_state.capture()
        training = runner.detector.training

        def look() -> Iterable[Any]:
            batches = stream(runner.train_loop.dataloader, 0)
            return (next(batches).to(runner.model.device) for _ in range(self.batches))

        runner.detector.eval()
        limits = choose_thresholds(runner.detector, layers, look)
        runner.detector.train(training)
        random_state.restore(state)
        return distributed.broadcast(limits)  # every process has seen other batches


def rounded_layers(detector: nn.Module, keep: Sequence[str]) -> dict[str, nn.Module]:
    """Layers by name that quantisation-aware training rounds.

    Raises:
        ConfigError: none.
    """
    found = {name: part for name, part in detector.named_modules() if isinstance(part, _KINDS)}
    # Inside torch's own attention a linear layer's weights are read without calling it.
    inside = [name for name, part in detector.named_modules() if isinstance(part, nn.MultiheadAttention)]
    chosen: dict[str, nn.Module] = {
        name: part
        for name, part in found.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in keep)
        and not any(name.startswith(f"{path}.") for path in inside)
    }
    if not chosen:
        raise ConfigError(f"QuantizationHook: no layer of {type(detector).__name__} is left to round")
    return chosen


@torch.no_grad()
def choose_thresholds(
    detector: nn.Module, layers: dict[str, nn.Module], look: Callable[[], Iterable[Any]]
) -> dict[str, Tensor]:
    """Threshold of every layer's input; a layer that is not called has 0, which rounds nothing.

    Args:
        detector: in evaluation mode.
        layers: of :func:`rounded_layers`.
        look: gives the same batches at every call.
    """
    largest = dict.fromkeys(layers, 0.0)

    def measure(name: str, x: Tensor) -> None:
        largest[name] = max(largest[name], float(x.abs().max()))

    _watch(detector, layers, look(), measure)
    counts = {name: np.zeros(_BINS) for name in layers}

    def count(name: str, x: Tensor) -> None:
        if largest[name] > 0:
            counts[name] += torch.histc(x.float().abs(), _BINS, 0, largest[name]).cpu().numpy()

    _watch(detector, layers, look(), count)
    return {
        name: torch.tensor(size * threshold_of_least_error(counts[name]) / _BINS) for name, size in largest.items()
    }


def _watch(
    detector: Any, layers: dict[str, nn.Module], batches: Iterable[Any], see: Callable[[str, Tensor], None]
) -> None:
    handles = [
        layer.register_forward_pre_hook(lambda part, inputs, name=name: see(name, inputs[0]))  # type: ignore[misc]
        for name, layer in layers.items()
    ]
    try:
        for batch in batches:
            detector.predict(batch)
    finally:
        for handle in handles:
            handle.remove()


class _Rounded:
    """Reads its weights rounded, and rounds what it is given; parameters and their names are as before."""

    input_limit: Tensor
    weight_axis: int

    @property
    def weight(self) -> Tensor:
        return fake_quantize_channels(self._parameters["weight"], self.weight_axis)  # type: ignore[attr-defined]

    def forward(self, x: Tensor, *rest: Any) -> Any:
        if float(self.input_limit) > 0:
            x = fake_quantize(x, self.input_limit)
        return super().forward(x, *rest)  # type: ignore[misc]


def round_layer(layer: nn.Module, limit: Tensor) -> None:
    """Let a layer compute as in int8 from now on, in place.

    Args:
        layer: convolution or linear layer.
        limit: () float32, threshold of its input.
    """
    parameter = next(layer.parameters())
    if not isinstance(layer, _Rounded):
        kind = type(layer)
        layer.__class__ = type(f"Rounded{kind.__name__}", (_Rounded, kind), {})
        layer.register_buffer("input_limit", limit.to(parameter.device), persistent=False)
        layer.weight_axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0  # type: ignore[assignment]
    else:
        layer.input_limit.copy_(limit)
