"""Structured pruning: whole channels leave a trained network, which then learns on, smaller and faster."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from bev._optional import require
from bev.engine.run_state import last_checkpoint
from bev.io.checkpoint import CheckpointError, load_checkpoint, load_weights, weights_of
from bev.io.narrow import NARROWED, mark_narrowed
from bev.models.detectors.dense import DenseDetector
from bev.registry import HOOKS, ConfigError

_LOG = logging.getLogger(__name__)
_SIZE_PX = 128


@HOOKS.register_module()
class ChannelPruningHook(Hook):
    """Takes the channels of least weight out of a trained detector of single pictures before training begins.

    Torch-Pruning (Fang et al., "DepGraph", CVPR 2023, arXiv 2301.12900) finds which layers share a channel; groups are
    ranked by the norm of all weights that a channel has in them. The layers that give scores and boxes keep theirs.
    What is trained, saved, tested and exported is the smaller network: its checkpoints say so themselves
    (:mod:`bev.io.narrow`) and load through every door with the unpruned configuration.

    Args:
        checkpoint: trained weights, a file or a work folder.
        ratio: share of channels that leave each layer, 0..1.
        keep: patterns (``fnmatch``) of modules whose outputs keep all channels.
        round_to: numbers of channels stay multiples of it.

    Raises:
        ConfigError: values that make no sense, or not a dense detector.
        CheckpointError: the weights do not fit.
        ImportError: Torch-Pruning is not installed.
    """

    def __init__(self, checkpoint: str, ratio: float = 0.3, keep: Sequence[str] = (), round_to: int = 4) -> None:
        if not 0 < ratio < 1 or round_to < 1:
            raise ConfigError(f"ChannelPruningHook: ratio {ratio} must be within 0..1, round_to {round_to} at least 1")
        self.checkpoint, self.ratio, self.keep, self.round_to = checkpoint, ratio, tuple(keep), round_to

    def attach(self, detector: nn.Module) -> None:
        """Load and prune, before optimiser and averages see the parameters."""
        path = Path(self.checkpoint)
        file = last_checkpoint(path) if path.is_dir() else path
        if file is None:
            raise CheckpointError(f"{path} holds no checkpoint")
        weights = weights_of(load_checkpoint(file), file)
        if NARROWED in weights:
            raise CheckpointError(f"{file} has been pruned by channels already")
        load_weights(detector, weights, file)
        before = sum(p.numel() for p in detector.parameters())
        prune_channels(detector, self.ratio, self.keep, self.round_to)
        after = sum(p.numel() for p in detector.parameters())
        _LOG.info("pruned %s by channels: %d parameters of %d are left", type(detector).__name__, after, before)


def prune_channels(detector: nn.Module, ratio: float, keep: Sequence[str] = (), round_to: int = 4) -> None:
    """Take channels out of a dense detector, in place; arguments as of :class:`ChannelPruningHook`.

    Raises:
        ConfigError: not a dense detector, a pattern that fits nothing, or nothing that could go.
    """
    pruning = require("torch_pruning", extra="prune")
    if not isinstance(detector, DenseDetector):
        raise ConfigError(f"ChannelPruningHook prunes detectors of single pictures, not a {type(detector).__name__}")
    parts = detector.named_modules()
    layers: dict[str, nn.Module] = {n: m for n, m in parts if isinstance(m, (nn.Conv2d, nn.Linear))}
    idle = [pattern for pattern in keep if not any(fnmatch.fnmatchcase(name, pattern) for name in layers)]
    if idle:
        raise ConfigError(f"ChannelPruningHook.keep: no layer fits {', '.join(map(repr, idle))}")
    kept = [m for n, m in layers.items() if any(fnmatch.fnmatchcase(n, pattern) for pattern in keep)]
    example = torch.rand(1, 3, _SIZE_PX, _SIZE_PX, generator=torch.Generator().manual_seed(0)) * 255
    training, before = detector.training, _shapes(detector, example)
    detector.eval()
    wanted = [p.requires_grad for p in detector.parameters()]
    detector.requires_grad_(True)  # the dependencies are read from the gradient's graph
    pruner = pruning.pruner.BasePruner(
        detector,
        example,
        importance=pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[*kept, *_last_layers(detector, layers, example)],
        round_to=round_to,
        output_transform=lambda out: sum(value.sum() for value in _tensors(out)),
    )
    pruner.step()
    for parameter, asked in zip(detector.parameters(), wanted):
        parameter.requires_grad_(asked)
        parameter.grad = None
    if _shapes(detector, example) != before:
        raise ConfigError(f"ChannelPruningHook: {type(detector).__name__} gives other shapes after pruning")
    detector.train(training)
    mark_narrowed(detector)


@torch.no_grad()
def _last_layers(detector: nn.Module, layers: dict[str, nn.Module], example: Tensor) -> list[nn.Module]:
    """Layers whose result is a raw output of the detector."""
    given: dict[int, nn.Module] = {}
    kept: list[Tensor] = []  # alive, so that no two results share an address

    def see(part: nn.Module, inputs: Any, output: Tensor) -> None:
        given[output.data_ptr()] = part
        kept.append(output)

    handles = [layer.register_forward_hook(see) for layer in layers.values()]
    try:
        outputs = _tensors(detector(example))
    finally:
        for handle in handles:
            handle.remove()
    return [given[value.data_ptr()] for value in outputs if value.data_ptr() in given]


@torch.no_grad()
def _shapes(detector: nn.Module, example: Tensor) -> list[tuple[int, ...]]:
    return [tuple(value.shape) for value in _tensors(detector.eval()(example))]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]
