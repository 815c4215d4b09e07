"""Unstructured pruning: the smallest weights become zero while the others learn on."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from bev.engine.hooks.averaging import AveragingHook
from bev.io.checkpoint import CheckpointError
from bev.registry import HOOKS, ConfigError

_KINDS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def sparsity_at(share: float, final: float) -> float:
    """Zhu and Gupta's cubic schedule (2017, arXiv 1710.01878): fast at first, slow towards the end.

    Args:
        share: of the pruning phase that is over, clipped to 0..1.
        final: share of zeros at its end.
    """
    return final * (1 - (1 - min(max(share, 0.0), 1.0)) ** 3)


@HOOKS.register_module()
class PruningHook(Hook):
    """Gradual magnitude pruning (Zhu and Gupta 2017) inside any training run.

    Masks only grow. They hold in the weights after every step, in their moving average, in checkpoints (whose weights
    are plain tensors with zeros) and in resumed runs. Combine it with ``load_from`` a trained checkpoint, a small rate
    and, if wanted, a ``DistillationHook``.

    Args:
        sparsity: share of zeros at the end, over all pruned layers; None keeps the zeros that the loaded weights have,
            e.g. to train a pruned network with quantisation.
        begin, end: shares of the run between which weights are pruned; the rest fine-tunes.
        updates: how many times masks grow in between.
        scope: ``global`` ranks the weights of all layers together, each layer's in units of their mean magnitude (a
            layer's scale says nothing where a norm follows); ``layer`` gives every layer the same share, as the paper.
        keep: patterns (``fnmatch``) of modules that are not pruned.
        most: largest share of zeros in one layer under ``global``.

    Raises:
        ConfigError: values that make no sense, or nothing to prune.
    """

    priority = "ABOVE_NORMAL"  # before averages take the weights

    def __init__(
        self,
        sparsity: float | None = 0.7,
        begin: float = 0.0,
        end: float = 0.5,
        updates: int = 20,
        scope: Literal["global", "layer"] = "global",
        keep: Sequence[str] = (),
        most: float = 0.95,
    ) -> None:
        if sparsity is not None and not 0 < sparsity < 1:
            raise ConfigError(f"PruningHook: sparsity {sparsity} must be within 0..1")
        if not 0 <= begin < end <= 1 or updates < 1 or not 0 < most <= 1:
            raise ConfigError(f"PruningHook: 0 <= begin {begin} < end {end} <= 1, updates {updates} >= 1, most {most}")
        if scope not in ("global", "layer"):
            raise ConfigError(f"PruningHook: scope {scope!r}; known: global, layer")
        self.sparsity, self.begin, self.end, self.updates = sparsity, begin, end, updates
        self.scope, self.keep, self.most = scope, tuple(keep), most
        self.masks: dict[str, Tensor] = {}

    def before_train(self, runner: Any) -> None:
        """Choose weights and steps. Raises CheckpointError: a resumed run's masks are of other layers."""
        self._weights = pruned_weights(runner.detector, self.keep)
        total = runner.train_loop.max_iters
        first, last = round(self.begin * total), max(round(self.end * total), 1)
        self._moments = {int(m) for m in np.linspace(first + 1, last, min(self.updates, last - first)).round()}
        self._first, self._last = first, last
        if self.masks and set(self.masks) != set(self._weights):
            raise CheckpointError("the checkpoint's pruning masks are of other layers than this configuration prunes")
        if self.sparsity is None and not self.masks:
            self.masks = {name: weight != 0 for name, weight in self._weights.items()}
        self._apply(runner)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        step = batch_idx + 1
        if self.sparsity is not None and step in self._moments:
            share = (step - self._first) / (self._last - self._first)
            self.masks = grown_masks(
                self._weights, sparsity_at(share, self.sparsity), self.masks, self.scope == "global", self.most
            )
        self._apply(runner)

    @torch.no_grad()
    def _apply(self, runner: Any) -> None:
        averages = [hook.average for hook in runner.hooks if isinstance(hook, AveragingHook)]
        for name, mask in self.masks.items():
            self._weights[name].mul_(mask)
            for average in averages:
                average[name].mul_(mask)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["pruning"] = {name: _packed(mask) for name, mask in self.masks.items()}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        weights = pruned_weights(runner.detector, self.keep)
        saved = checkpoint.get("pruning") or {}
        if saved and set(saved) != set(weights):
            raise CheckpointError("the checkpoint's pruning masks are of other layers than this configuration prunes")
        self.masks = {name: _unpacked(packed, weights[name]) for name, packed in saved.items()}


def pruned_weights(detector: nn.Module, keep: Sequence[str]) -> dict[str, nn.Parameter]:
    """Weights by name of the convolutions and linear layers whose modules fit no pattern.

    Raises:
        ConfigError: none, or a pattern that fits nothing.
    """
    found = {name: part for name, part in detector.named_modules() if isinstance(part, _KINDS)}
    idle = [pattern for pattern in keep if not any(fnmatch.fnmatchcase(name, pattern) for name in found)]
    if idle:
        raise ConfigError(f"PruningHook.keep: no layer fits {', '.join(map(repr, idle))}")
    chosen = [name for name in found if not any(fnmatch.fnmatchcase(name, pattern) for pattern in keep)]
    if not chosen:
        raise ConfigError(f"PruningHook: no layer of {type(detector).__name__} is left to prune")
    return {f"{name}.weight": found[name]._parameters["weight"] for name in chosen}  # type: ignore[misc]


@torch.no_grad()
def grown_masks(
    weights: dict[str, nn.Parameter], sparsity: float, masks: dict[str, Tensor], together: bool, most: float
) -> dict[str, Tensor]:
    """Masks (True: kept) that leave out the smallest weights and everything left out before.

    Args:
        weights: by name.
        sparsity: share of zeros, 0..1.
        masks: so far; empty at first.
        together: rank all layers' weights together, in units of each layer's mean magnitude.
        most: largest share of one layer then.
    """
    sizes = {name: weight.abs() for name, weight in weights.items()}
    if together:
        # The mean is that of the weights that are left: else pruning a layer would make its weights look large.
        for name, size in sizes.items():
            left = size if name not in masks else size[masks[name]]
            sizes[name] = size / left.mean().clamp(min=1e-12)
    result = {}
    border = _smallest(torch.cat([size.flatten() for size in sizes.values()]), sparsity) if together else None
    for name, size in sizes.items():
        limit = _smallest(size.flatten(), sparsity if border is None else most)
        limit = limit if border is None else torch.minimum(limit, border)
        result[name] = size > limit
        if name in masks:
            result[name] &= masks[name]
    return result


def _smallest(values: Tensor, share: float) -> Tensor:
    """Largest of the smallest ``share`` of values; -1 where that is none of them."""
    count = int(share * values.numel())
    return values.kthvalue(count).values if count else values.new_tensor(-1.0)


def _packed(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(mask.cpu().numpy().ravel()))


def _unpacked(packed: Tensor, like: Tensor) -> Tensor:
    bits = np.unpackbits(packed.numpy())[: like.numel()].astype(bool)
    return torch.from_numpy(bits).view(like.shape).to(like.device)
