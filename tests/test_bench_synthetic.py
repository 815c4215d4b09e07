"""The rows of ``benchmarks.synthetic``: every one can be built, finished ones are kept, tables say what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import synthetic
from benchmarks.synthetic_rows import ROWS, Row
from bev.engine import load_config
from bev.registry import MODELS
from tests.paths import REPO_ROOT


def _run(row: str, **scores: float) -> dict[str, Any]:
    names = {"mAP": 0.1, "NDS": 0.2, **{error: 1.0 for error in synthetic.ERRORS}, **scores}
    point = {"minutes": 1.0, "step": 6, **names}
    return {"row": row, "config": "x", "seed": 0, **point, "curve": [point]}


def steps_of(row: Row) -> int:
    return row.steps or int(load_config(REPO_ROOT / row.config).train_cfg.max_steps)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_builds_and_its_options_change_something(name: str) -> None:
    row = ROWS[name]
    config = load_config(REPO_ROOT / row.config, row.options)
    with torch.device("meta"):
        MODELS.build(config.model)
    if row.against is not None:  # only runs of one length are compared
        assert steps_of(row) == steps_of(ROWS[row.against])
    if row.options:
        assert config.to_dict() != load_config(REPO_ROOT / row.config).to_dict()


def test_rows_by_name_or_beginning() -> None:
    assert list(synthetic.chosen(["BEVFormer"], False)) == ["BEVFormer"]
    assert list(synthetic.chosen(["lift"], False))[0] == "lift-splat" and len(synthetic.chosen(["lift"], False)) == 5
    assert len(synthetic.chosen([], True)) == 8 and synthetic.chosen([], False) == ROWS
    with pytest.raises(SystemExit, match="no row begins with 'YOLO'"):
        synthetic.chosen(["YOLO"], False)


def test_finished_rows_are_kept_and_broken_ones_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def train(row: Any, seed: int, steps: int, root: str, work_dir: Path) -> dict[str, Any]:
        asked.append((row.config, steps))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {key: value for key, value in _run("").items() if key != "row"} | {"step": steps, "seed": seed}

    monkeypatch.setattr(synthetic, "train", train)
    monkeypatch.setattr(synthetic, "make_world", lambda root: None)
    arguments = ["--only", "PETR", "DETR3D", "--steps", "6", "--out", str(tmp_path / "o"), "--work-dir", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        synthetic.main(arguments)
    synthetic.main(arguments)
    assert len(asked) == 3 and asked[1] == asked[2] != asked[0]
    runs = json.loads((tmp_path / "o" / "synthetic.json").read_text())["runs"]
    assert [run["row"] for run in runs] == ["DETR3D", "PETR"]
    assert (tmp_path / "o" / "synthetic.png").stat().st_size > 10_000


def test_twins_are_compared(tmp_path: Path) -> None:
    table = synthetic.markdown([_run("BEVDet4D", mAVE=0.5), _run("BEVDet4D, one frame", mAVE=0.9)])
    assert "| BEVDet4D, one frame | BEVDet4D | 0 | +0.0000 | +0.0000 | +0.4000 |" in table
    assert "against" not in synthetic.markdown([_run("BEVDet4D")])
