"""What a graph's boxes are finished with is what the detector's own decoder does."""

from __future__ import annotations

import pytest
import torch

from bev.deploy.finish import boxes2d_of
from bev.models.heads.dense import DenseDecoder
from bev.structures import Boxes2D


@pytest.mark.parametrize("suppression", ["nms", "soft_linear", "soft_gaussian", "diou", "fusion"])
def test_the_suppression_is_the_decoders(suppression: str) -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(40, 2, generator=generator) * 40
    score = torch.rand(40, generator=generator).sort(descending=True)[0]
    boxes = Boxes2D(torch.cat([low, low + 20], 1), torch.arange(40) % 2, score)
    rule = DenseDecoder(0.01, 0.4, 30, suppression=suppression)  # type: ignore[arg-type]
    settings = {"score_threshold": 0.01, "nms_iou": 0.4, "max_boxes": 30, "clip": True, "voting": False}
    arrays = {"boxes": boxes.xyxy_px[None], "label": boxes.label[None], "score": boxes.score[None]}
    arrays["valid"] = torch.ones(1, 40, dtype=torch.bool)
    (found,) = boxes2d_of(arrays, {**settings, "suppression": suppression}, [(64.0, 64.0)])
    expected = rule.suppress(boxes, (64.0, 64.0))
    assert torch.equal(found.xyxy_px, expected.xyxy_px) and torch.equal(found.score, expected.score)
