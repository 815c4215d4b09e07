"""Every foreign convention, there and back, and each against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bev.structures import Boxes3D
from bev.structures.conventions import (
    ATTRIBUTES,
    CAMERAS_BEVDET,
    CAMERAS_DETR3D,
    CLASS_OF_CATEGORY,
    CLASSES,
    boxes_from_array,
    boxes_to_array,
    convert_detr_branch,
    decode_detr,
    default_attribute,
    encode_detr,
    old_yaw,
)
from tests.structures.strategies import assert_same_boxes, boxes

CONVENTIONS = ("mmdet3d_v1", "mmdet3d_v0")
quick = settings(max_examples=60, deadline=None)


@given(boxes(), st.sampled_from(CONVENTIONS), st.sampled_from(("center", "bottom")))
@quick
def test_arrays_there_and_back(original: Boxes3D, convention: str, z: str) -> None:
    array = boxes_to_array(original, convention, z)  # type: ignore[arg-type]
    back = boxes_from_array(array, original.label, convention, z, original.score)  # type: ignore[arg-type]
    assert_same_boxes(back, original)
    again = boxes_to_array(back, convention, z)  # type: ignore[arg-type]
    torch.testing.assert_close(again, array, atol=1e-9, rtol=0, equal_nan=True)


@given(boxes(), st.booleans())
@quick
def test_detr_code_there_and_back(original: Boxes3D, legacy: bool) -> None:
    code = encode_detr(original, legacy)
    assert code.shape == (len(original), 10)
    assert_same_boxes(decode_detr(code, original.label, original.score, legacy=legacy), original, atol=1e-8)
    short = decode_detr(code[:, :8], original.label, original.score, legacy=legacy)
    assert bool(short.velocity_mps.isnan().all())


@given(boxes(), st.integers(0, 2**31))
@quick
def test_a_converted_branch_speaks_the_present_code(original: Boxes3D, seed: int) -> None:
    """A linear layer that gives legacy codes, converted, gives codes of the same boxes in the present convention."""
    legacy = encode_detr(original, legacy=True).nan_to_num(0)
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(len(original), 16, generator=g, dtype=torch.float64)
    weight = torch.randn(10, 16, generator=g, dtype=torch.float64)
    bias = torch.randn(10, generator=g, dtype=torch.float64)
    old = features @ weight.T + bias
    new = features @ convert_detr_branch(weight).T + convert_detr_branch(bias)
    assert_same_boxes(
        decode_detr(new, original.label, original.score),
        decode_detr(old, original.label, original.score, legacy=True),
        atol=1e-7,
    )
    swapped = convert_detr_branch(legacy.T).T
    torch.testing.assert_close(swapped, encode_detr(original).nan_to_num(0), atol=1e-9, rtol=0)
    torch.testing.assert_close(convert_detr_branch(convert_detr_branch(weight)), weight)


@given(st.floats(-10, 10))
@quick
def test_old_yaw_is_its_own_inverse(angle: float) -> None:
    yaw = torch.tensor([angle], dtype=torch.float64)
    assert -math.pi <= float(old_yaw(yaw)) < math.pi
    twice = old_yaw(old_yaw(yaw))
    torch.testing.assert_close(twice.cos(), yaw.cos())
    torch.testing.assert_close(twice.sin(), yaw.sin(), atol=1e-9, rtol=0)


def _one_box() -> Boxes3D:
    return Boxes3D(
        *(torch.tensor(v, dtype=torch.float64) for v in ([[1.0, 2, 3]], [[4.0, 2, 1.5]], [math.pi / 2], [[0.0, 5.0]])),
        torch.zeros(1, dtype=torch.int64),
        torch.ones(1).double(),
        "lidar",
    )


def test_numbers_by_hand() -> None:
    """A car that drives along +y of the LiDAR frame, that is straight ahead."""
    box = _one_box()
    new = [1, 2, 3, 4, 2, 1.5, math.pi / 2, 0, 5]
    assert boxes_to_array(box, "mmdet3d_v1", "center")[0].tolist() == pytest.approx(new)
    assert boxes_to_array(box, "mmdet3d_v1", "bottom")[0, 2].item() == 3 - 0.75
    old = boxes_to_array(box, "mmdet3d_v0", "center")[0].tolist()
    assert old[3:6] == [2, 4, 1.5] and abs(abs(old[6]) - math.pi) < 1e-12
    code = encode_detr(box)[0].tolist()
    assert code == pytest.approx([1, 2, math.log(4), math.log(2), 3, math.log(1.5), 1, 0, 0, 5])
    legacy = encode_detr(box, legacy=True)[0].tolist()
    assert legacy == pytest.approx([1, 2, math.log(2), math.log(4), 3, math.log(1.5), 0, -1, 0, 5])


def test_short_arrays_have_no_velocity_and_wrong_ones_are_refused() -> None:
    short = boxes_to_array(_one_box(), "mmdet3d_v1", "center")[:, :7]
    back = boxes_from_array(short, torch.zeros(1), "mmdet3d_v1", "center")
    assert bool(back.velocity_mps.isnan().all()) and back.score.tolist() == [1.0]
    with pytest.raises(ValueError, match=r"\(1, 8\), expected \(M, 7\) or \(M, 9\)"):
        boxes_from_array(torch.zeros(1, 8), torch.zeros(1), "mmdet3d_v1", "center")


def test_names_are_the_devkits() -> None:
    constants = pytest.importorskip("nuscenes.eval.detection.constants")
    from nuscenes.eval.detection.utils import category_to_detection_name

    assert sorted(CLASSES) == sorted(constants.DETECTION_NAMES)
    assert sorted(ATTRIBUTES) == sorted(constants.ATTRIBUTE_NAMES)
    for category, name in CLASS_OF_CATEGORY.items():
        assert category_to_detection_name(category) == name
    others = ("animal", "human.pedestrian.wheelchair", "movable_object.debris", "vehicle.emergency.police")
    for category in (*others, "static_object.bicycle_rack", "human.pedestrian.stroller"):
        assert category_to_detection_name(category) is None and category not in CLASS_OF_CATEGORY
    assert sorted(CAMERAS_BEVDET) == sorted(CAMERAS_DETR3D) and len(set(CAMERAS_DETR3D)) == 6


@pytest.mark.parametrize(
    ("name", "slow", "fast"),
    [
        ("car", "vehicle.parked", "vehicle.moving"),
        ("truck", "vehicle.parked", "vehicle.moving"),
        ("trailer", "vehicle.parked", "vehicle.moving"),
        ("construction_vehicle", "vehicle.parked", "vehicle.moving"),
        ("bus", "vehicle.stopped", "vehicle.moving"),
        ("pedestrian", "pedestrian.standing", "pedestrian.moving"),
        ("motorcycle", "cycle.without_rider", "cycle.with_rider"),
        ("bicycle", "cycle.without_rider", "cycle.with_rider"),
        ("barrier", "", ""),
        ("traffic_cone", "", ""),
    ],
)
def test_default_attributes(name: str, slow: str, fast: str) -> None:
    assert (default_attribute(name, 0.2), default_attribute(name, 0.21)) == (slow, fast)
