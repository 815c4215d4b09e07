"""Boxes under changes of frame, selection and joining."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.geometry.boxes import points_in_boxes
from bev.geometry.transforms import invert_rigid, transform_points
from bev.structures import Boxes3D
from tests.structures.strategies import assert_same_boxes, boxes, upright

quick = settings(max_examples=40, deadline=None)


@given(boxes(), upright())
@quick
def test_there_and_back(original: Boxes3D, pose: torch.Tensor) -> None:
    assert_same_boxes(original.transform(pose, "global").transform(invert_rigid(pose), "lidar"), original)


@given(boxes(), upright(), upright())
@quick
def test_two_changes_are_their_product(original: Boxes3D, a: torch.Tensor, b: torch.Tensor) -> None:
    assert_same_boxes(original.transform(a, "ego").transform(b, "global"), original.transform(b @ a, "global"))


@given(boxes(), upright(), st.booleans())
@quick
def test_corners_move_with_the_boxes(original: Boxes3D, pose: torch.Tensor, mirror: bool) -> None:
    if mirror:
        pose = pose @ torch.diag(torch.tensor([-1.0, 1, 1, 1])).double()
    moved = original.transform(pose, "global").corners_m()
    expected = transform_points(pose, original.corners_m().reshape(-1, 3)).reshape(-1, 8, 3)
    swap = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6]) if mirror else torch.arange(8)  # left is right in the mirror
    torch.testing.assert_close(moved, expected[:, swap])


@given(boxes())
@quick
def test_corners_are_named_as_the_docstring_says(original: Boxes3D) -> None:
    corners = original.corners_m()
    forward = torch.stack([original.yaw_rad.cos(), original.yaw_rad.sin()], -1)
    left = torch.stack([-forward[:, 1], forward[:, 0]], -1)
    offset = corners - original.center_m[:, None]
    along = (offset[..., :2] * forward[:, None]).sum(-1) / original.size_m[:, :1]
    across = (offset[..., :2] * left[:, None]).sum(-1) / original.size_m[:, 1:2]
    half = torch.tensor(0.5).double()
    torch.testing.assert_close(along, half * torch.tensor([1, 1, -1, -1] * 2).expand_as(along))
    torch.testing.assert_close(across, half * torch.tensor([1, -1, -1, 1] * 2).expand_as(across))
    torch.testing.assert_close(
        offset[..., 2] / original.size_m[:, 2:], half * torch.tensor([-1] * 4 + [1] * 4).expand_as(along)
    )


@given(boxes(), upright())
@quick
def test_points_stay_in_their_boxes(original: Boxes3D, pose: torch.Tensor) -> None:
    shrunk = original.center_m[:, None] + 0.98 * (original.corners_m() - original.center_m[:, None])
    grown = original.center_m[:, None] + 1.02 * (original.corners_m() - original.center_m[:, None])
    for points, inside in ((shrunk, True), (grown, False)):
        flat = transform_points(pose, points.reshape(-1, 3))
        found = points_in_boxes(flat, original.transform(pose, "global"))
        own = found.reshape(len(original), len(original), 8)[range(len(original)), range(len(original))]
        assert bool((own == inside).all())


def test_a_mirror_turns_the_heading_and_velocity() -> None:
    box = Boxes3D(
        *(torch.tensor(v, dtype=torch.float64) for v in ([[1.0, 2, 3]], [[4.0, 2, 1]], [0.3], [[2.0, 1.0]])),
        torch.zeros(1, dtype=torch.int64),
        torch.ones(1),
        "lidar",
    )
    mirrored = box.transform(torch.diag(torch.tensor([-1.0, 1, 1, 1])), "lidar")
    assert mirrored.center_m.tolist() == [[-1, 2, 3]] and mirrored.velocity_mps.tolist() == [[-2, 1]]
    assert mirrored.yaw_rad.item() == pytest.approx(torch.pi - 0.3)


@given(boxes(), boxes())
@quick
def test_joining_and_selecting(a: Boxes3D, b: Boxes3D) -> None:
    joined = Boxes3D.cat([a, b])
    assert_same_boxes(joined[: len(a)], a, atol=0)
    assert_same_boxes(joined[list(range(len(a), len(a) + len(b)))], b, atol=0)
    assert_same_boxes(joined[torch.arange(len(joined)) < len(a)], a, atol=0)
    with pytest.raises(ValueError, match="frames"):
        Boxes3D.cat([a, replace(b, frame="ego")])


def test_joining_keeps_an_optional_field_only_where_all_have_it() -> None:
    empty = Boxes3D.empty("ego")
    counted = replace(empty, num_lidar_pts=torch.zeros(0, dtype=torch.int64))
    assert Boxes3D.cat([counted, counted]).num_lidar_pts is not None
    assert Boxes3D.cat([counted, empty]).num_lidar_pts is None


def test_wrong_shapes_are_named() -> None:
    empty = Boxes3D.empty("lidar")
    with pytest.raises(ValueError, match=r"Boxes3D\.velocity_mps has shape \(2, 2\), expected \(0, 2\)"):
        replace(empty, velocity_mps=torch.zeros(2, 2))
    with pytest.raises(ValueError, match="track_id"):
        replace(empty, track_id=torch.zeros(3))
