"""From every format into every other: a field comes through with its values, or what is lost is named."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bev.io import FileError
from bev.io.points import FORMATS, read_points, write_points
from bev.structures import PointCloud
from tests.io.point_clouds import made_cloud

KINDS: list[tuple[str, dict[str, Any]]] = [
    (".pcd", dict(encoding="ascii")),
    (".pcd", dict(encoding="binary")),
    (".pcd", dict(encoding="binary_compressed")),
    (".ply", dict(encoding="ascii")),
    (".ply", dict(encoding="binary_little_endian")),
    (".ply", dict(encoding="binary_big_endian")),
    *((suffix, {}) for suffix, form in FORMATS.items() if form.write is not None and suffix not in (".pcd", ".ply")),
]


def _id(kind: tuple[str, dict[str, Any]]) -> str:
    return " ".join((kind[0], *kind[1].values()))


def _values(cloud: PointCloud) -> dict[str, np.ndarray]:
    """Fields and positions as numbers of one type, so that only values are compared."""
    table = {name: column.to(torch.float64).numpy() for name, column in cloud.fields.items()}
    return {**table, "xyz_m": cloud.xyz_m.double().numpy()}


def _through(cloud: PointCloud, path: Path, options: dict[str, Any]) -> tuple[PointCloud, str]:
    """The cloud as the file gives it back, and all that was said when it was written."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lost = write_points(cloud, path, lossy=True, **options)
        back = read_points(path)
    if lost:
        with pytest.raises(FileError) as refusal, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_points(cloud, path, **options)
        assert all(reason in str(refusal.value) for reason in lost)
    return back, " ".join((*lost, *(str(warning.message) for warning in caught)))


def _check(before: PointCloud, after: PointCloud, said: str, suffix: str) -> None:
    las, old, new = suffix in (".las", ".laz"), _values(before), _values(after)
    if len(after) != len(before):
        assert "without a finite position" in said or "not finite" in said, said
        finite = np.isfinite(old["xyz_m"]).all(1)
        old = {name: column[finite] for name, column in old.items()}
    for name, column in old.items():
        if repr(name) in said or name == "xyz_m" and "positions" in said:
            continue
        assert name in new, f"{name} is lost and nobody said so: {said!r}"
        if las and name == "rgb" and before.fields["rgb"].dtype == torch.uint8:
            column = column * 257
        near = 5e-7 if las and name == "xyz_m" else 0.0
        np.testing.assert_allclose(new[name], column, rtol=0, atol=near, err_msg=name)
    single_row = before.grid_hw is None or before.grid_hw[0] == 1  # which formats take for a cloud without rows
    assert single_row or before.grid_hw == after.grid_hw or "rows and columns" in said, said


@pytest.mark.parametrize("first", KINDS, ids=_id)
def test_nothing_is_lost_in_silence(first: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    made = made_cloud(24, (4, 6))
    made.xyz_m[3] = float("nan")
    clouds = [made, replace(made_cloud(5), fields={"intensity": torch.arange(5.0)}), made_cloud(1)]
    for cloud, second in product(clouds, KINDS):
        if {first[0], second[0]} & {".las", ".laz"} and importlib.util.find_spec("laspy") is None:
            continue
        a, b = tmp_path / f"a{first[0]}", tmp_path / f"b{second[0]}"
        middle, said = _through(cloud, a, first[1])
        _check(cloud, middle, said, first[0])
        last, said = _through(middle, b, second[1])
        _check(middle, last, said, second[0])
