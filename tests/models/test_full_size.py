"""Every published configuration: its number of parameters, and its outputs' shapes on small pictures.

The full size is measured by ``benchmarks.full_size``, whose expectations these are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.frames import test_frame as frame_of
from benchmarks.full_size import PUBLISHED, mismatches, one_frame, shapes
from bev.engine.config import load_config
from bev.models.checkpoints import FAMILIES
from bev.registry import MODELS
from bev.structures import Batch
from tests.paths import REPO_ROOT

SMALL_PX = (64, 192)  # whole cells at every stride
CELLS = (12, 12)


def test_every_published_configuration_is_listed() -> None:
    found = [*REPO_ROOT.glob("configs/*/*_nusc.py"), *REPO_ROOT.glob("projects/*petr/configs/*_nusc.py")]
    assert {path.relative_to(REPO_ROOT).as_posix() for path in found} == set(PUBLISHED)
    known = {name for family in FAMILIES.values() for name in family.configs if family.name != "yolox"}
    assert known <= set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_headers_tell_the_published_result_and_its_source(name: str) -> None:
    header = (REPO_ROOT / name).read_text().split('"""')[1]
    assert "ublished" in header and ("NDS" in header and "mAP" in header or "IoU" in header), header
    assert "README of" in header, "where it is from"


def _coarse(name: str) -> float:
    """Cells of a lift-splat grid are so much larger: they still halve as often as the network does."""
    return 2.5 if "/lss/" in name else 4.0


def _small(name: str) -> tuple[nn.Module, list[Batch]]:
    """The network with all its channels and layers, for small pictures and a small map; weights are zeros."""
    config = load_config(REPO_ROOT / name)
    for part in ("img_view_transformer", "pts_bbox_head.coder"):
        grid = _node(config.model, part).get("grid")
        for axis in ("x_m", "y_m") if grid else ():
            low, high, step = grid[axis]
            grid[axis] = (low, high, step * _coarse(name))
    if "image_size_px" in config.model.get("img_view_transformer", {}):
        config.model.img_view_transformer.image_size_px = SMALL_PX
    if config.model.type == "BEVFormer":
        config.model.pts_bbox_head.transformer.encoder.bev_shape = CELLS
    config.test_dataloader.dataset.image.size = SMALL_PX
    with torch.device("meta"):
        model = MODELS.build(config.model)
    model = model.to_empty(device="cpu").eval()  # no time is spent on drawing weights
    for tensor in model.state_dict(keep_vars=True).values():
        tensor.data.zero_()
    for buffer in model.buffers():
        buffer.zero_()
    frames = [frame_of(config, index) for index in range(2)]
    return model, [replace(frame, images=torch.zeros_like(frame.images)) for frame in frames]


def _node(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = config.get(part, {})
    return config


def _expected(name: str) -> dict[str, tuple[int, ...]]:
    expected = dict(PUBLISHED[name].outputs)
    for key, shape in expected.items():
        if key == "state.bev":
            expected[key] = (1, CELLS[0] * CELLS[1], 256)
        elif key.startswith("tasks.") or key == "logits":
            expected[key] = (*shape[:-2], *(int(side / _coarse(name)) for side in shape[-2:]))
    return expected


@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_outputs_on_small_pictures(name: str) -> None:
    model, frames = _small(name)
    if "bevformer" not in name:  # whose map is a part of its parameters
        assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name].parameters
    outputs, _ = one_frame(model, frames)
    assert not mismatches(shapes(outputs), _expected(name))


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_parameters_of_bevformer(size: str) -> None:
    name = f"configs/bevformer/bevformer_{size}_nusc.py"
    with torch.device("meta"):
        model = MODELS.build(load_config(REPO_ROOT / name).model)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name].parameters


def test_mismatches_are_told() -> None:
    found = shapes({"tasks": [{"reg": torch.zeros(1, 2)}], "other": 3})
    assert found == {"tasks.0.reg": (1, 2)}
    assert mismatches(found, {"tasks.0.reg": (1, 3), "x": (1,)}) == [
        "tasks.0.reg: (1, 2), expected (1, 3)",
        "x: None, expected (1,)",
    ]
