"""A rig's folder with random damage gives a clean error or a sound sample, and its check a verdict."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.data import FolderDataset
from bev.data.checks import inspect_frames
from bev.data.transforms import ImageTransform
from bev.io import FileError
from tests.data.rig_folder import write_rig

VALUES: list[Any] = [
    *(0, -1, 1, 1e308, -1e-308, 2**62, 2**63, 2**80, float("nan"), float("inf"), None, True, "", "x", [], {}),
    *([1, 2], [[1, 2], [3, 4]], {"a": 1}, "../../etc/passwd", "images", "\x00"),
]
CASES = 60


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything in a document."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [*([path] if path else []), *(p for key, value in inner for p in places(value, (*path, key)))]


def damage(rng: np.random.Generator, root: Path) -> str:
    """One change to one file, and its description."""
    if rng.random() < 0.25:
        files = sorted(p for p in root.rglob("*") if p.is_file())
        file = files[rng.integers(len(files))]
        data = bytearray(file.read_bytes())
        cut = int(rng.integers(len(data)))
        file.write_bytes(data[:cut] if rng.random() < 0.5 else data[:cut] + rng.bytes(9) + data[cut + 9 :])
        return f"{file} damaged at {cut}"
    file = root / ("calib.json" if rng.random() < 0.5 else "poses.json")
    try:
        document = json.loads(file.read_text())
    except ValueError:  # damaged before
        return f"{file} left as it is"
    path = (options := places(document))[rng.integers(len(options))]
    node = document
    for key in path[:-1]:
        node = node[key]
    value = VALUES[rng.integers(len(VALUES))]
    if rng.random() < 0.2:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    file.write_text(json.dumps(document))
    return f"{file}: {path} = {value!r}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = write_rig(tmp_path_factory.mktemp("rig"))
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("seed", range(CASES))
def test_damage_is_an_error_or_a_sound_sample(seed: int, tmp_path: Path, whole: dict[str, bytes]) -> None:
    for name, data in whole.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    rng = np.random.default_rng(seed)
    done = [damage(rng, tmp_path) for _ in range(int(rng.integers(1, 3)))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            dataset = FolderDataset(str(tmp_path), image=ImageTransform((24, 48)), frame="ego", history=1)
            for position in range(len(dataset)):
                sample = dataset[position]
                assert bool(torch.isfinite(sample.rig.img_from_ref).all()), done
                assert bool(torch.isfinite(sample.global_from_ref).all()), done
                assert sample.boxes is None or bool(torch.isfinite(sample.boxes.corners_m()).all()), done
        except FileError as error:
            assert str(tmp_path) in str(error) or "frame" in str(error), done
            return
        for finding in inspect_frames(dataset).findings:
            assert str(finding), done
