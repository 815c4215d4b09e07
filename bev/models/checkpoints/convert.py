"""From published weights to a model's: names first, then what equal names may hide."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bev.io.checkpoint import CheckpointError, LoadReport, compare
from bev.models.checkpoints.families import Family
from bev.models.checkpoints.properties import Colours, Properties
from bev.structures.conventions import convert_center_branch, convert_detr_branch

_DETR_BRANCH = re.compile(r"(^|\.)reg_branches\.\d+\.4\.(weight|bias)$")
_CENTER_BRANCH = re.compile(r"(^|\.)task_heads\.\d+\.(dim|rot)\.1\.(weight|bias)$")
_CAMERA_ROWS = re.compile(r"(^|\.)attentions\.1\.attention_weights\.(weight|bias)$")
_COUNTER = "num_batches_tracked"
# Not learned: they follow from the configuration, and a file that holds others was made for another one.
_CONSTANTS = ("dx", "bx", "nx", "frustum", "voxel_size", "voxel_coord", "voxel_num", "pc_range", "position_range")


@dataclass(frozen=True)
class Conversion:
    """Weights under the model's names.

    Attributes:
        weights: all that the file holds and the model may take.
        notes: one line a change that was made, or that was not needed.
        left_out: names of parts that only training needs.
        report: how the weights fit the model.
    """

    weights: dict[str, Tensor]
    notes: tuple[str, ...]
    left_out: tuple[str, ...]
    report: LoadReport


def convert(
    weights: Mapping[str, Tensor], family: Family, model: nn.Module, source: Properties, target: Properties
) -> Conversion:
    """Convert a file's weights for a model.

    Args:
        weights: by the file's names.
        family: whose they are.
        model: that shall take them; may be on the meta device. It is not changed.
        source, target: what weights and model expect; where either says None, nothing is changed.

    Raises:
        CheckpointError: a difference that no permutation of weights mends (frame, mean colour, camera order of
            positions), or a name that the family does not have.
    """
    renamed = family.rename(weights)
    own = model.state_dict()
    left_out = [
        name
        for prefix in family.training_only
        if not any(key.startswith(prefix) for key in own)
        for name in renamed
        if name.startswith(prefix)
    ]
    kept = {name: value for name, value in renamed.items() if name not in set(left_out)}
    notes = [f"names: {len(set(renamed) - set(weights))} of {len(weights)} changed"]
    if source.frame is not None and target.frame not in (None, source.frame):
        raise CheckpointError(
            f"these weights see the {source.frame} frame, the configuration's head the {target.frame} frame: "
            "no change of weights turns a learned map; choose the data set's and coder's frame"
        )
    kept = _boxes(kept, family, source, target, notes)
    kept = _cameras(kept, source, target, notes)
    kept = _colours(kept, source.colours, target.colours, notes)
    kept = _counters(kept, own, notes)
    _constants(kept, own, notes)
    typed = {name: value.to(own[name].dtype) if name in own else value for name, value in kept.items()}
    return Conversion(typed, tuple(notes), tuple(left_out), compare(model, typed))


def _boxes(
    weights: dict[str, Tensor], family: Family, source: Properties, target: Properties, notes: list[str]
) -> dict[str, Tensor]:
    """The last layer of every regression branch, into the model's box code."""
    if source.boxes is None or target.boxes is None:
        return weights
    if source.boxes == target.boxes:
        notes.append(f"box code: {source.boxes}, as the model's")
        return weights
    converted, count = dict(weights), 0
    for name, value in weights.items():
        if _DETR_BRANCH.search(name):
            converted[name] = convert_detr_branch(value, family.size_rows)
        elif found := _CENTER_BRANCH.search(name):
            converted[name] = convert_center_branch(found.group(2), value)
        else:
            continue
        count += 1
    notes.append(f"box code: {source.boxes} -> {target.boxes} in {count} tensors")
    return converted


def _cameras(
    weights: dict[str, Tensor], source: Properties, target: Properties, notes: list[str]
) -> dict[str, Tensor]:
    """Weights that belong to cameras by index, into the order of the model's data."""
    if source.cameras is None:
        return weights
    if target.cameras in (None, source.cameras):
        known = "as the data's" if target.cameras else "the configuration names no cameras: the data must have them so"
        notes.append(f"cameras: {', '.join(source.cameras)}; {known}")
        return weights
    assert target.cameras is not None
    if sorted(target.cameras) != sorted(source.cameras):
        raise CheckpointError(
            f"these weights are learned for the cameras {', '.join(source.cameras)}, "
            f"the configuration's data has {', '.join(target.cameras)}"
        )
    order = [source.cameras.index(name) for name in target.cameras]
    converted, count = dict(weights), 0
    for name, value in weights.items():
        if name.endswith("transformer.cams_embeds"):
            converted[name] = value[order]
        elif _CAMERA_ROWS.search(name) and _of_cameras(name, weights):
            rows = value.unflatten(0, (len(order), -1))  # cameras, then points and levels
            converted[name] = rows[order].flatten(0, 1)
        else:
            continue
        count += 1
    if not count:
        raise CheckpointError(
            f"positions of these weights count the cameras in the order {', '.join(source.cameras)}: "
            f"give the configuration's data that order, not {', '.join(target.cameras)}"
        )
    notes.append(f"cameras: {count} tensors reordered for {', '.join(target.cameras)}")
    return converted


def _of_cameras(name: str, weights: Mapping[str, Tensor]) -> bool:
    """DETR3D's attention (which alone encodes the reference), not a deformable one of the same name."""
    return name.rpartition("attention_weights.")[0] + "position_encoder.0.weight" in weights


def _colours(
    weights: dict[str, Tensor], source: Colours | None, target: Colours | None, notes: list[str]
) -> dict[str, Tensor]:
    """The first convolution, for the model's channel order and scale."""
    if source is None or target is None:
        return weights
    if source == target:
        notes.append(f"colours: {source}, as the model's")
        return weights
    given = target if target.order == source.order else target.reversed()
    if any(abs(a - b) > 1e-2 for a, b in zip(given.mean, source.mean)):
        raise CheckpointError(
            f"these weights expect {source}, the configuration gives {target}; a mean cannot be folded into a padded "
            "convolution: set the preprocess node's mean to the weights'"
        )
    name = _first_convolution(weights)
    if name is None:
        return weights
    factor = torch.tensor([b / a for a, b in zip(source.std, given.std)], dtype=weights[name].dtype)
    value = weights[name] * factor[None, :, None, None]
    flipped = target.order != source.order
    notes.append(f"colours: {source} -> {target} in {name}")
    return {**weights, name: value.flip(1) if flipped else value}


def _first_convolution(weights: Mapping[str, Tensor]) -> str | None:
    names = [n for n, v in weights.items() if n.startswith("img_backbone.") and v.ndim == 4 and v.shape[1] == 3]
    if len(names) > 1:
        raise CheckpointError(f"which convolution sees the image? {', '.join(names)}")
    return names[0] if names else None


def _counters(weights: dict[str, Tensor], own: Mapping[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Files of old torch lack batch norms' step counters, which nothing here reads: 0."""
    absent = [
        name
        for name in own
        if name.endswith(_COUNTER) and name not in weights and name.replace(_COUNTER, "running_mean") in weights
    ]
    if absent:
        notes.append(f"batch norms: {len(absent)} step counters that the file lacks are 0")
    return {**weights, **{name: torch.zeros((), dtype=torch.long) for name in absent}}


def _constants(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], notes: list[str]) -> None:
    """Warn of geometry in the file that is not the configuration's."""
    for name, value in weights.items():
        if name.rpartition(".")[2] not in _CONSTANTS or name not in own or own[name].is_meta:
            continue
        if own[name].shape == value.shape and not torch.allclose(own[name].float(), value.float(), atol=1e-3):
            notes.append(f"WARNING: {name} of the file is not what the configuration's geometry gives")
