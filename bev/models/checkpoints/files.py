"""Reading what authors publish: plain state dicts, OpenMMLab and Lightning files, moving averages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bev.io.checkpoint import CheckpointError, load_checkpoint, weights_of

# Top-level names of weights, moving averages first. mmengine, timm, YOLOX, plain.
_AVERAGES = ("ema_state_dict", "state_dict_ema", "model_ema", "ema")
_PLAIN = ("state_dict", "model", "model_state", "net")
# mmcv < 2 kept the other set of weights as buffers of the model, dots replaced: before a file is written the averages
# are put into the parameters, so that these buffers are what is not wanted.
_MMCV_BUFFER = re.compile(r"^(module\.)?ema_[a-z0-9_]+$", re.IGNORECASE)


@dataclass(frozen=True)
class PublishedWeights:
    """Tensors of a file by their names there (without the wrappers' ``module.``) and what the file says of itself.

    Attributes:
        weights: by name.
        versions: of the packages that wrote it, e.g. ``{"mmdet3d_version": "0.17.1"}``.
        key: the entry of the file that was read; "" for a bare state dict.
        skipped: names of mmcv's second set of weights.
    """

    weights: dict[str, Tensor]
    versions: dict[str, str]
    key: str
    skipped: tuple[str, ...] = ()


def read_published(path: str | Path, prefer_average: bool = True) -> PublishedWeights:
    """Read a file with ``weights_only=True``; optimizers, schedulers and logs in it are left alone.

    Args:
        path: of the file.
        prefer_average: take the moving average where the file has one beside the plain weights.

    Raises:
        CheckpointError: missing, damaged, with foreign Python objects, or without weights.
    """
    checkpoint = load_checkpoint(path)
    names = (*_AVERAGES, *_PLAIN) if prefer_average else (*_PLAIN, *_AVERAGES)
    key = next((name for name in names if isinstance(checkpoint.get(name), Mapping) and checkpoint[name]), "")
    inner: Mapping[str, Any] = checkpoint[key] if key else checkpoint
    if key and isinstance(inner.get("state_dict"), Mapping):  # a whole checkpoint under one name
        inner = inner["state_dict"]
    found = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)} if key else weights_of(inner, path)
    if not found:
        raise CheckpointError(f"checkpoint {path} has no tensors under {key!r}; it holds: {', '.join(checkpoint)}")
    bare = {_unwrapped(name): value for name, value in found.items()}
    dotted = {name.replace(".", "_").lower() for name in bare}
    skipped = {n for n in bare if _MMCV_BUFFER.match(n) and n.removeprefix("ema_").lower() in dotted}
    if key in _AVERAGES:  # mmengine counts its updates among the weights
        skipped |= {n for n in bare if n in ("steps", "updates", "n_averaged")}
    kept = {name: value for name, value in bare.items() if name not in skipped}
    return PublishedWeights(kept, _versions(checkpoint.get("meta")), key, tuple(sorted(skipped)))


def _unwrapped(name: str) -> str:
    """Without the prefix of data-parallel and averaging wrappers, once or twice."""
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _versions(meta: Any) -> dict[str, str]:
    if not isinstance(meta, Mapping):
        return {}
    return {str(k): str(v) for k, v in meta.items() if str(k).endswith("_version") and isinstance(v, str)}
