"""What the benchmarks compare with: the published forms must compute the same, and must really be what runs."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch

from benchmarks import published
from benchmarks.frames import test_frame as frame_of
from benchmarks.published import published_forms
from bev.engine import load_config
from bev.registry import MODELS

CASES = {
    "configs/detr3d/detr3d_tiny_synthetic.py": "_camera_sampling_reference",
    "configs/bevformer/bevformer_tiny_synthetic.py": "_attention_reference",
}


@pytest.mark.parametrize("path", CASES)
def test_published_forms_compute_the_same(path: str) -> None:
    config = load_config(path)
    torch.manual_seed(0)
    model: Any = MODELS.build(config.model).eval()
    frame = frame_of(config, 0)
    form = CASES[path]
    with torch.no_grad(), patch.object(published, form, wraps=getattr(published, form)) as called:
        ours = model(frame.images, frame.rig)
        assert not called.called
        with published_forms():
            theirs = model(frame.images, frame.rig)
    assert called.called
    torch.testing.assert_close(ours["cls_logits"], theirs["cls_logits"], atol=1e-4, rtol=1e-4)
