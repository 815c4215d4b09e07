"""The shipped data configurations build and give samples, here on the tiny folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bev.engine.config import load_config
from bev.registry import DATASETS, METRICS
from bev.structures import collate
from tests.data.tiny_nuscenes import SPLITS, VERSION
from tests.paths import REPO_ROOT

# Of rigs; the data sections of single pictures are tested with tests/data/test_pictures.py's own folders.
CONFIGS = sorted(
    path
    for path in (REPO_ROOT / "configs/_base_/data").glob("*.py")
    if load_config(path).train_dataloader.dataset.type != "PictureDataset"
)


def _here(node: dict[str, Any], root: Path, split: str) -> dict[str, Any]:
    assert {"root", "version", "split"} <= set(node)
    return {**node, "root": str(root), "version": VERSION, "split": split}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_a_data_configuration_gives_batches(path: Path, tiny_root: Path) -> None:
    cfg = load_config(path).to_dict()
    train, val = (_here(cfg[f"{s}_dataloader"]["dataset"], tiny_root, f"tiny_{s}") for s in ("train", "val"))
    for node in (train, val):
        dataset = DATASETS.build(node)
        batch = collate([dataset[0], dataset[len(dataset) - 1]])
        assert len(batch.previous) == node.get("history", 0)
        assert batch.images.shape[:3] == (2, 6, 3) and tuple(batch.images.shape[3:]) == tuple(node["image"]["size"])
        assert batch.boxes is not None and batch.rig.check("batch").image_size_px == tuple(node["image"]["size"])
    metric = METRICS.build(_here(cfg["val_evaluator"], tiny_root, "tiny_val"))
    assert len(metric.tokens) == len(dataset) == len(set(dataset.tokens)) and SPLITS["tiny_val"] == ["scene-b"]
    assert cfg["test_dataloader"] == cfg["val_dataloader"] and cfg["test_evaluator"] == cfg["val_evaluator"]


def test_there_are_configurations() -> None:
    assert len(CONFIGS) >= 6
