"""Every supported model on real data, through its own pipelines: built, one training step, one prediction."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.paths import real_data_dir

# The cheap ones run always; the others take up to a minute each.
FAST = ("rtmdet", "retinanet")
SLOW = ("pointpillars", "centerpoint", "fcos3d", "pgd", "smoke", "faster_rcnn", "fcos", "atss", "yolox")
SLOW = (*SLOW, "deformable_detr", "dino")


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_one_step_and_one_prediction(name: str, tmp_path: Path) -> None:
    from projects.mmdet3d.tests.models import prepare, step_and_predict

    losses, changes, result = step_and_predict(prepare(name, real_data_dir(), tmp_path))
    assert all(bool(torch.isfinite(value).all()) for value in losses.values())
    assert float(losses["loss"]) > 0
    moved = sum(float(change) > 0 for change in changes)
    assert moved > len(changes) / 2, f"only {moved} of {len(changes)} parameters moved"
    found = result.pred_instances_3d if "pred_instances_3d" in result else result.pred_instances
    boxes = found.bboxes_3d.tensor if "bboxes_3d" in found else found.bboxes
    assert bool(torch.isfinite(boxes).all())
