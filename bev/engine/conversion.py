"""A published file as a checkpoint that ``tools/test.py`` reads: what ``tools/convert_checkpoint.py`` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from bev.engine.config import load_config
from bev.io.checkpoint import CheckpointError, LoadReport, save_checkpoint
from bev.models.checkpoints import Conversion, Family, convert, properties_of_model, read_published
from bev.models.checkpoints.families import box_convention_of, detect_family, family_named
from bev.models.checkpoints.files import PublishedWeights
from bev.models.detectors import DenseDetector
from bev.models.detectors.yolox_weights import load_onnx
from bev.registry import MODELS
from bev.structures.conventions import CAMERAS_DETR3D, BoxConvention

MMDET3D = "mmdet3d"  # not a method: any method's weights as mmdet3d 1.x keeps them
Shape = tuple[int, ...]
_SHOWN = 8


@dataclass(frozen=True)
class Converted:
    """What was done, for the user: configuration, family, :class:`Conversion`, and lines that tell it."""

    config: str
    family: str
    conversion: Conversion
    lines: tuple[str, ...]


def convert_file(
    source: str | Path,
    destination: str | Path,
    family: str | None = None,
    config: str | Path | None = None,
    boxes: BoxConvention | None = None,
    partial: bool = False,
    plain: bool = False,
    root: Path = Path(),
) -> Converted:
    """Convert one file.

    Args:
        source: published checkpoint.
        destination: checkpoint to write, whole or not at all.
        family: whose file it is, or "mmdet3d"; None: told from its names.
        config: of the network; None: the published configuration that fits best.
        boxes: box code of the file, where neither its names nor its versions tell.
        partial: write what fits although not everything does.
        plain: the plain weights although the file has a moving average.
        root: folder that holds ``configs`` and ``projects``.

    Raises:
        CheckpointError: unreadable, of an unknown or another family, ambiguous, or not fitting; nothing is written.
        ConfigError: the configuration cannot be read or built.
    """
    published = read_published(source, prefer_average=not plain)
    names = list(published.weights)
    kind = detect_family(names, str(source)) if family in (None, MMDET3D) else family_named(family, names, str(source))
    code, why = _box_code(kind, published, family, boxes, str(source))
    path, cfg, model = _configuration(config, kind, published, root)
    expected = replace(kind.properties(published.weights), boxes=code)
    conversion = convert(published.weights, kind, model, expected, properties_of_model(model, _cameras(cfg)))
    lines = tuple(_lines(source, published, kind, f"{code} ({why})" if code else "", path, conversion))
    report = conversion.report
    if not report.matched or not (report.complete or partial):
        raise CheckpointError(
            "\n".join([f"checkpoint {source} does not fit {path}; nothing is written", *lines])
            + ("" if not report.matched else "\n--allow-partial writes what fits")
        )
    meta = {"source": Path(source).name, "family": kind.name, "config": str(path), "partial": not report.complete}
    kept = {name: conversion.weights[name].contiguous().clone() for name in report.matched}
    save_checkpoint({"state_dict": kept, "meta": meta}, destination)
    return Converted(str(path), kind.name, conversion, lines)


def convert_onnx(source: str | Path, destination: str | Path, config: str | Path) -> str:
    """YOLOX's ONNX export, whose batch norms are folded, as a checkpoint; returns the line to show."""
    model = MODELS.build(load_config(config).model)
    if not isinstance(model, DenseDetector):
        raise CheckpointError(f"config {config} builds a {type(model).__name__}: only YOLOX is read from ONNX")
    load_onnx(model, source)
    state = model.state_dict()
    save_checkpoint({"state_dict": state, "meta": {"source": Path(source).name, "config": str(config)}}, destination)
    return f"{len(state)} tensors of {source} into {config}"


def _box_code(
    kind: Family, published: PublishedWeights, family: str | None, boxes: BoxConvention | None, source: str
) -> tuple[BoxConvention | None, str]:
    """Box code of the file and how it is known: the user, mmdet3d 1.x, the file's versions, the method's authors."""
    usual = kind.properties(published.weights).boxes
    if usual is None:
        return None, ""
    if boxes is not None:
        return boxes, "as told"
    if family == MMDET3D:
        return "mmdet3d_v1", "mmdet3d 1.x"
    said = box_convention_of(published.versions)
    if said is not None:
        return said, f"the file was written by {', '.join(f'{k} {v}' for k, v in published.versions.items())}"
    if kind.ambiguous and family is None:
        raise CheckpointError(
            f"checkpoint {source} is of {kind.name}, but whose: the authors' files and mmdet3d's have equal names and "
            f"other boxes, and it does not say; tell with --from {kind.name} (authors) or --from mmdet3d (1.x)"
        )
    return usual, f"as the authors of {kind.name}"


def _configuration(
    config: str | Path | None, kind: Family, published: PublishedWeights, root: Path
) -> tuple[str | Path, Config, nn.Module]:
    """The user's configuration, or the published one whose names and shapes the file has most of."""
    if config is None:
        renamed = {name: tuple(value.shape) for name, value in kind.rename(published.weights).items()}
        config = max(kind.configs, key=lambda name: _overlap(renamed, published_shapes(root / name)))
        cfg = load_config(root / config)
    else:
        cfg = load_config(config)
    return config, cfg, MODELS.build(cfg.model)


def _overlap(given: Mapping[str, Shape], own: Mapping[str, Shape]) -> int:
    """Tensors that fit less those that the model lacks: of two models that hold all of them, the smaller wins."""
    fitting = sum(own.get(name) == shape for name, shape in given.items())
    return 2 * fitting - len(own)


@lru_cache(maxsize=None)
def published_shapes(config: Path) -> Mapping[str, Shape]:
    """Names and shapes of a configuration's model, without making its weights."""
    with torch.device("meta"):
        model = MODELS.build(load_config(config).model)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _cameras(cfg: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names and order of the cameras in the configuration's data; None where it does not say."""
    dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
    if "cameras" in dataset:
        return tuple(dataset["cameras"]) if dataset["cameras"] is not None else None
    return CAMERAS_DETR3D if dataset.get("type") == "NuScenesDataset" else None


def _lines(
    source: str | Path,
    published: PublishedWeights,
    kind: Family,
    code: str,
    path: str | Path,
    conversion: Conversion,
) -> Iterator[str]:
    report = conversion.report
    where = f"entry '{published.key}'" if published.key else "a bare state dict"
    yield f"{source}: {len(published.weights)} tensors ({where}) of {kind.name}"
    if published.skipped:
        yield f"skipped: {len(published.skipped)} tensors of the averaging hook (first: {published.skipped[0]})"
    yield f"configuration: {path}"
    if code:
        yield f"boxes of the file: {code}"
    yield from conversion.notes
    yield from _fit(report)
    yield from _listing("left out, needed by training alone", conversion.left_out)
    yield from _listing("missing (the model has them, the file does not)", report.missing)
    yield from _listing("unexpected (the file has them, the model does not)", report.unexpected)
    shapes = [f"{name}: {have} in the file, {want} in the model" for name, have, want in report.misshapen]
    yield from _listing("of another shape", shapes)


def _fit(report: LoadReport) -> Iterator[str]:
    """How many of each part's tensors fit."""
    bad = [*report.missing, *(name for name, *_ in report.misshapen)]
    total = len(report.matched) + len(bad)
    yield f"fit: {len(report.matched)} of the model's {total} tensors"
    for part in dict.fromkeys(name.partition(".")[0] for name in [*report.matched, *bad]):
        fitting = sum(name.partition(".")[0] == part for name in report.matched)
        yield f"  {part}: {fitting} of {fitting + sum(name.partition('.')[0] == part for name in bad)}"


def _listing(title: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"{title}: {len(names)}"
        yield from (f"  {name}" for name in names[:_SHOWN])
        if len(names) > _SHOWN:
            yield f"  ... and {len(names) - _SHOWN} more"
