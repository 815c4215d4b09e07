"""A damaged nuScenes folder gives a clean error or a right result, whatever is damaged."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.data import NuScenesDataset
from bev.data.nuscenes.tables import TABLES
from bev.io import FileError
from bev.registry import DATASETS
from bev.structures import Sample
from tests.data.tiny_nuscenes import VERSION

_VALUES: list[Any] = [
    *(None, "", "nope", -1, 0, 1 << 40, 1 << 70, 1e308, float("nan"), float("inf"), [], {}, [1.0], True),
    *([0.0, 0.0, 0.0], [1e300, 0.0, 0.0], [-1.0, 1.0, 1.0], [2.0, 0.0, 0.0, 0.0], "a\0b", "\ud800", ["x", "y"]),
]


def _mutate_record(rows: list[dict[str, Any]], rng: np.random.Generator) -> str:
    row = int(rng.integers(len(rows)))
    kind = rng.choice(["value", "value", "value", "swap", "drop field", "drop row", "twice"])
    field = str(rng.choice(list(rows[row])))
    if kind == "value":
        rows[row][field] = _VALUES[int(rng.integers(len(_VALUES)))]
    elif kind == "swap":  # a value that is valid elsewhere
        rows[row][field] = rows[int(rng.integers(len(rows)))][field]
    elif kind == "drop field":
        del rows[row][field]
    elif kind == "drop row":
        del rows[row]
    else:
        rows.insert(int(rng.integers(len(rows))), dict(rows[row]))
    return f"{kind} {field} of record {row}"


def _mutate_bytes(path: Path, rng: np.random.Generator) -> str:
    data = bytearray(path.read_bytes())
    kind = rng.choice(["cut", "flip", "empty", "delete", "garbage", "folder"])
    if kind == "cut":
        data = data[: int(rng.integers(len(data)))]
    elif kind == "flip":
        for at in rng.integers(len(data), size=3):
            data[at] ^= int(rng.integers(1, 256))
    elif kind == "garbage":
        data = bytearray(rng.bytes(50))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "delete":
        path.write_bytes(b"" if kind == "empty" else bytes(data))
    return f"{kind} {path.name}"


def _damage(root: Path, rng: np.random.Generator) -> str:
    if rng.random() < 0.7:
        name = str(rng.choice(TABLES))
        path = root / VERSION / f"{name}.json"
        rows = json.loads(path.read_text())
        what = _mutate_record(rows, rng)
        path.write_text(json.dumps(rows))
        return f"{name}: {what}"
    files = sorted(p for p in root.rglob("*") if p.is_file() and ".bev_index" not in p.parts)
    return _mutate_bytes(files[int(rng.integers(len(files)))], rng)


def _check(sample: Sample) -> None:
    """What every model relies on."""
    sample.rig.check("fuzz")
    assert sample.images.dtype == torch.uint8 and sample.images.shape == (6, 3, 24, 48)
    assert torch.isfinite(sample.global_from_ref).all() and torch.isfinite(sample.rig.img_from_ref).all()
    assert sample.points is not None and torch.isfinite(sample.points.xyz_m).all()
    if sample.boxes is not None:
        boxes = sample.boxes
        assert torch.isfinite(boxes.center_m).all() and torch.isfinite(boxes.yaw_rad).all()
        assert torch.isfinite(boxes.size_m).all() and (boxes.size_m > 0).all()
        assert not torch.isinf(boxes.velocity_mps).any()
        assert ((boxes.label >= 0) & (boxes.label < 10)).all()


def _read_all(root: Path, on_error: str) -> NuScenesDataset:
    image = dict(type="ImageTransform", size=(24, 48))
    cfg = dict(type="NuScenesDataset", root=str(root), version=VERSION, split="tiny_train", image=image)
    dataset: NuScenesDataset = DATASETS.build(dict(cfg, load_points=True, history=1, on_error=on_error))
    for i in range(len(dataset)):
        _check(dataset[i])
    return dataset


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("group", range(4))
def test_a_damaged_folder(tiny_root: Path, tmp_path: Path, group: int) -> None:
    outcomes = {"error": 0, "result": 0}
    for number in range(40):
        rng = np.random.default_rng((group, number))
        root = tmp_path / str(number)
        shutil.copytree(tiny_root, root, ignore=shutil.ignore_patterns(".bev_index"))
        what = _damage(root, rng)
        try:
            _read_all(root, "raise")
            outcomes["result"] += 1
        except FileError as error:
            assert str(root) in str(error) and len(str(error)) < 2000, what
            outcomes["error"] += 1
        except ValueError as error:  # a camera whose name is gone from the tables
            assert type(error) is ValueError and str(root) in str(error), what
            outcomes["error"] += 1
        except Exception as error:
            raise AssertionError(f"seed {(group, number)}, {what}: {error!r}") from error
        assert not list(root.rglob("*.tmp")), what
        shutil.rmtree(root)
    assert min(outcomes.values()) > 3, outcomes  # the mutations hit, but not always


def test_nan_in_every_number_of_a_pose_is_refused(own_root: Path) -> None:
    path = own_root / VERSION / "ego_pose.json"
    rows = json.loads(path.read_text())
    for field, at in (("translation", 1), ("rotation", 2)):
        changed = json.loads(json.dumps(rows))
        changed[0][field][at] = math.nan
        path.write_text(json.dumps(changed))
        with pytest.raises(FileError, match=f"ego_pose: record {rows[0]['token']} holds a NaN"):
            _read_all(own_root, "raise")


def test_skip_and_blank_survive_any_damaged_sensor_file(own_root: Path) -> None:
    rng, files = np.random.default_rng(5), sorted(own_root.glob("samples/*/scene-a__[12].*"))
    for path in files:
        if rng.random() < 0.5:
            _mutate_bytes(path, rng)
    for on_error, kind in (("skip", "skipped"), ("blank_camera", "blanked")):
        assert _read_all(own_root, on_error).faults()[kind]
