"""StreamPETR's 2D head: what a picture shows, losses, and that detection does not depend on it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bev.geometry.boxes2d import to_corners
from bev.geometry.projection import project
from bev.structures import Boxes3D
from projects.streampetr import FocalHead
from projects.streampetr.focal_head import FocalMaps, PictureBoxes, picture_boxes
from projects.streampetr.tests import test_streampetr
from tests.models.rigs import random_batch, ring_rig

SIZE_PX = (64, 96)


def boxes(*center_m: tuple[float, float, float], size_m: float = 2.0) -> Boxes3D:
    """Cubes, label by their order."""
    count = len(center_m)
    return Boxes3D(
        torch.tensor(center_m),
        torch.full((count, 3), size_m),
        torch.linspace(0.1, 1.0, count),
        torch.zeros(count, 2),
        torch.arange(count),
        torch.ones(count),
        "lidar",
    )


def test_rectangles_span_the_corners_and_are_cut_at_the_border() -> None:
    rig = ring_rig(6, SIZE_PX, 1)
    ahead = rig.ref_from_img[0, 0] @ torch.tensor([48.0 * 8, 32.0 * 8, 8.0, 1.0]).to(rig.ref_from_img)
    beside = rig.ref_from_img[0, 0] @ torch.tensor([1.0 * 8, 32.0 * 8, 8.0, 1.0]).to(rig.ref_from_img)
    found = boxes(tuple(ahead[:3].tolist()), tuple(beside[:3].tolist()))
    shown = picture_boxes(found, rig.img_from_ref[0], SIZE_PX)
    assert shown[0].label.tolist() == [0, 1]
    for box in range(2):
        corners_px = project(found.corners_m()[box], rig.img_from_ref[0, :1])[0][0]
        cut = corners_px.clamp(min=0).minimum(torch.tensor([96.0, 64.0]))
        expected = torch.cat([cut.amin(0), cut.amax(0)])
        torch.testing.assert_close(shown[0].corners_px[box], expected.float(), atol=1e-3, rtol=0)
    assert shown[0].corners_px[1, 0] == 0
    torch.testing.assert_close(shown[0].center_px, torch.tensor([[48.0, 32.0], [1.0, 32.0]]), atol=1e-2, rtol=0)
    # The camera on the other side of the ring sees neither.
    assert len(shown[3].label) == 0


def test_what_is_covered_or_tiny_is_left_out() -> None:
    rig = ring_rig(6, SIZE_PX, 1)

    def at(depth_m: float) -> tuple[float, float, float]:
        point = rig.ref_from_img[0, 0] @ torch.tensor([48.0 * depth_m, 32.0 * depth_m, depth_m, 1.0]).to(
            rig.ref_from_img
        )
        return tuple(point[:3].tolist())  # type: ignore[return-value]

    near_and_far = boxes(at(15.0), at(6.0))
    assert picture_boxes(near_and_far, rig.img_from_ref[0], SIZE_PX)[0].label.tolist() == [1]
    alone = near_and_far[torch.tensor([0])]
    assert picture_boxes(alone, rig.img_from_ref[0], SIZE_PX)[0].label.tolist() == [0]
    tiny = boxes(at(15.0), size_m=0.05)
    assert picture_boxes(tiny, rig.img_from_ref[0], SIZE_PX)[0].label.tolist() == []


def test_right_predictions_have_no_box_loss_and_wrong_ones_do() -> None:
    head = FocalHead(32, 3, stride_px=16)
    shown = PictureBoxes(
        torch.tensor([[8.0, 8.0, 40.0, 24.0], [50.0, 20.0, 90.0, 60.0]]),
        torch.tensor([[20.0, 15.0], [70.0, 40.0]]),
        torch.tensor([2, 0]),
    )
    nothing = PictureBoxes(torch.zeros(0, 4), torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    scale = torch.tensor([96.0, 64.0, 96.0, 64.0])
    corners = to_corners(torch.rand(2, 24, 4) * 0.2 + 0.2)
    center, logits = torch.rand(2, 24, 2), torch.full((2, 24, 3), -20.0)
    corners[0, [5, 9]], center[0, [5, 9]] = shown.corners_px / scale, shown.center_px / scale[:2]
    logits[0, [5, 9], shown.label] = 20.0
    centerness = torch.full((2, 24), -20.0)
    cell = (shown.center_px / 16).long()
    centerness[0, cell[:, 1] * 6 + cell[:, 0]] = 20.0
    right = FocalMaps(logits, centerness, corners, center)
    losses = head.loss(right, [shown, nothing], SIZE_PX, torch.tensor(2.0))
    for name, value in losses.items():
        assert float(value) < 1e-4, name
    moved = right._replace(corners=corners + 0.05, center=center + 0.1)
    losses = head.loss(moved, [shown, nothing], SIZE_PX, torch.tensor(2.0))
    assert float(losses["picture.loss_bbox"]) == pytest.approx(5.0 * 2 * 0.05, rel=1e-3)  # the centre's two numbers
    assert float(losses["picture.loss_center"]) == pytest.approx(10.0 * 2 * 0.1, rel=1e-3)
    assert float(losses["picture.loss_giou"]) > 0.1 and float(losses["picture.loss_cls"]) > 0.01
    halved = head.loss(moved, [shown, nothing], SIZE_PX, torch.tensor(4.0))
    torch.testing.assert_close(halved["picture.loss_cls"] * 2, losses["picture.loss_cls"])


def test_an_empty_frame_has_losses_and_gradients() -> None:
    head = FocalHead(32, 3)
    nothing = PictureBoxes(torch.zeros(0, 4), torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    losses = head.loss(head(torch.randn(1, 2, 32, 4, 6)), [nothing] * 2, SIZE_PX, torch.tensor(0.0))
    assert all(torch.isfinite(v) for v in losses.values()) and float(losses["picture.loss_bbox"]) == 0
    sum(losses.values()).backward()
    assert head.cls.weight.grad is not None and head.cls.weight.grad.any()


def test_the_detector_learns_with_it_and_predicts_without() -> None:
    batch, plain = random_batch(), test_streampetr._detector()
    model = test_streampetr._detector()
    torch.manual_seed(3)
    model.img_roi_head = FocalHead(test_streampetr.DIM, 10, stride_px=8)
    losses = model.train().loss(batch)
    terms = [name for name in losses if name.startswith("picture.")]
    assert len(terms) == 5
    sum(losses[name] for name in terms).backward()
    assert all(p.grad is not None for p in model.img_roi_head.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.img_backbone.parameters())
    assert "picture_boxes" in model.target_counts(batch) and float(model.target_counts(batch)["picture_boxes"]) > 0
    model.eval(), plain.eval()
    with torch.no_grad():
        for ours, theirs in zip(model.predict(batch), plain.predict(replace(batch))):
            assert torch.equal(ours.score, theirs.score)


def test_published_names_and_wrong_weights() -> None:
    names = {name.rsplit(".", 1)[0] for name in FocalHead(256, 10).state_dict()}
    shared = {f"shared_{kind}.{layer}" for kind in ("cls", "reg") for layer in (0, 1)}
    assert names == {"cls", "centerness", "ltrb", "center2d"} | shared
    with pytest.raises(ValueError, match="heat.*are unknown"):
        FocalHead(32, 3, weights={"heat": 1.0})
