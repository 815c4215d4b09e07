"""Checkpoints: atomic to write, safe to read, strict about whose weights they hold.

A checkpoint is a dict of tensors and plain values with the detector's weights under ``state_dict`` (the detector's own
parameter names) and, where the run keeps one, their moving average under ``ema_state_dict``. Published files of
OpenMMLab have the first of these; bare state dicts are accepted too.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bev.io.narrow import fit_channels

WEIGHTS_KEYS = ("swa_state_dict", "ema_state_dict", "state_dict")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read or belongs to another model; the message names the file and the keys."""


def save_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint; a process killed at any moment leaves the old file or the new one, never half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        torch.save(dict(checkpoint), file)
        file.flush()
        os.fsync(file.fileno())  # else a power cut could leave the new name with the content missing
    os.replace(temporary, path)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint to CPU memory with ``weights_only=True``.

    The two non-tensor classes that OpenMMLab checkpoints carry (``HistoryBuffer`` and numpy scalars) are allowed, no
    other.

    Raises:
        CheckpointError: no such file, not a checkpoint, truncated, or holding other Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        with torch.serialization.safe_globals(_openmmlab_globals()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises whatever the bytes lead it to: KeyError, struct.error ...
        raise CheckpointError(
            f"checkpoint {path} cannot be read: damaged, or not of tensors and plain values alone ({_reason(error)})"
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(f"checkpoint {path} holds a {type(checkpoint).__name__}, expected a dict")
    return dict(checkpoint)


def weights_of(checkpoint: Mapping[str, Any], source: str | Path, prefer_ema: bool = True) -> dict[str, Tensor]:
    """The weights in a checkpoint: their average where there is one (and it is wanted), else the plain weights."""
    for key in WEIGHTS_KEYS if prefer_ema else WEIGHTS_KEYS[::-1]:
        if isinstance(checkpoint.get(key), Mapping):
            return {name: value for name, value in checkpoint[key].items() if isinstance(value, Tensor)}
    if checkpoint and all(isinstance(value, Tensor) for value in checkpoint.values()):
        return dict(checkpoint)
    raise CheckpointError(f"checkpoint {source} has no 'state_dict'; it holds: {', '.join(map(str, checkpoint))}")


@dataclass(frozen=True)
class LoadReport:
    """What of a checkpoint fitted a model.

    Attributes:
        matched: keys of equal name and shape.
        missing: keys that the model has and the checkpoint lacks.
        unexpected: keys that the checkpoint has and the model lacks.
        misshapen: ``(key, shape in the checkpoint, shape in the model)``.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True where every key fitted."""
        return not (self.missing or self.unexpected or self.misshapen)

    def summary(self) -> str:
        """One line: how many keys fit and the first of each kind that do not."""
        total = len(self.matched) + len(self.missing) + len(self.misshapen)
        parts = [f"{len(self.matched)} of the model's {total} keys match"]
        if self.missing:
            parts.append(f"{len(self.missing)} missing (first: {self.missing[0]})")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} unexpected (first: {self.unexpected[0]})")
        if self.misshapen:
            key, have, want = self.misshapen[0]
            parts.append(f"{len(self.misshapen)} of wrong shape (first: {key} is {have}, the model has {want})")
        return "; ".join(parts)


def compare(model: nn.Module, weights: Mapping[str, Tensor]) -> LoadReport:
    """Compare names and shapes, without loading."""
    own = model.state_dict()
    shared = [key for key in own if key in weights]
    misshapen = [
        (key, tuple(weights[key].shape), tuple(own[key].shape))
        for key in shared
        if weights[key].shape != own[key].shape
    ]
    bad = {key for key, _, _ in misshapen}
    return LoadReport(
        matched=[key for key in shared if key not in bad],
        missing=[key for key in own if key not in weights],
        unexpected=[key for key in weights if key not in own],
        misshapen=misshapen,
    )


def load_weights(
    model: nn.Module, weights: Mapping[str, Tensor], source: str | Path, partial: bool = False
) -> LoadReport:
    """Load weights into a model.

    Args:
        model: a bare detector (or part of one).
        weights: by the model's own names; a common ``module.`` prefix of data-parallel training is dropped.
        source: file name, for messages.
        partial: load what fits (fine-tuning); the caller shows the report.

    Raises:
        CheckpointError: not everything fits (``partial=False``) or nothing fits; the model is left as it was.
    """
    if weights and all(key.startswith("module.") for key in weights):
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    fit_channels(model, weights)  # weights of a network that structured pruning narrowed; no others
    report = compare(model, weights)
    if not report.matched or not (partial or report.complete):
        name = type(model).__name__
        raise CheckpointError(f"checkpoint {source} is of another model than {name}: {report.summary()}")
    model.load_state_dict({key: weights[key] for key in report.matched}, strict=False)
    return report


def _openmmlab_globals() -> list[Any]:
    """HistoryBuffer and numpy scalars, with what they are made of, under the names of numpy 1 and of numpy 2."""
    import numpy as np
    from mmengine.logging import HistoryBuffer

    core: Any = getattr(np, "core" if np.lib.NumpyVersion(np.__version__) < "2.0.0" else "_core")
    functions = [
        (getattr(core.multiarray, name), f"numpy.{package}.multiarray.{name}")
        for name in ("scalar", "_reconstruct")
        for package in ("core", "_core")
    ]
    # HistoryBuffer's pickle asks for four of its own methods through getattr: exactly these are given.
    functions.append((_history_method, "builtins.getattr"))
    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    return [HistoryBuffer, *functions, np.ndarray, np.dtype, *kinds]


def _history_method(owner: Any, name: str) -> Any:
    """``getattr``, for the statistics of HistoryBuffer alone."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError(f"attribute {name!r} of {owner!r} is not allowed")
    return getattr(HistoryBuffer, name)


def _reason(error: BaseException) -> str:
    """The telling part of torch's long messages: what it wraps."""
    root = error.__context__ if isinstance(error, pickle.UnpicklingError) and error.__context__ else error
    text = str(root).strip().partition("\n")[0].partition(". Please use")[0]
    return f"{type(root).__name__}: {text[:200]}"
