"""Rotations and rigid transforms, with scipy as the referee."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bev.geometry.rotations import (
    matrix_from_quaternion,
    quaternion_from_yaw,
    rotation_about_z,
    wrap_angle,
    yaw_from_matrix,
)
from bev.geometry.transforms import invert_rigid, rigid_from_quaternion, transform_points
from tests.structures.strategies import rigids

quick = settings(max_examples=60, deadline=None)
angles = st.floats(-math.pi, math.pi)


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4))
@quick
def test_quaternions_are_w_first_of_any_norm(q: list[float]) -> None:
    assume(np.linalg.norm(q) > 1e-3)
    ours = matrix_from_quaternion(torch.tensor(q, dtype=torch.float64))
    theirs = Rotation.from_quat([q[1], q[2], q[3], q[0]]).as_matrix()
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@given(angles)
@quick
def test_yaw_there_and_back(angle: float) -> None:
    yaw = torch.tensor([angle], dtype=torch.float64)
    for matrix in (rotation_about_z(yaw), matrix_from_quaternion(quaternion_from_yaw(yaw))):
        assert float(wrap_angle(yaw_from_matrix(matrix) - yaw).abs()) < 1e-9
        np.testing.assert_allclose(matrix[0], Rotation.from_euler("z", angle).as_matrix(), atol=1e-12)


@given(st.floats(-1e4, 1e4), st.sampled_from((2 * math.pi, math.pi)))
@quick
def test_wrapped_angles_are_in_range_and_equal_up_to_whole_turns(angle: float, period: float) -> None:
    wrapped = float(wrap_angle(torch.tensor(angle, dtype=torch.float64), period))
    assert -period / 2 - 1e-9 <= wrapped <= period / 2 + 1e-9
    turns = (angle - wrapped) / period
    assert abs(turns - round(turns)) < 1e-6


@given(rigids(), st.booleans())
@quick
def test_inverse_also_of_a_mirror(pose: torch.Tensor, mirror: bool) -> None:
    if mirror:
        pose = pose @ torch.diag(torch.tensor([1.0, -1, 1, 1])).double()
    torch.testing.assert_close(invert_rigid(pose) @ pose, torch.eye(4).double(), atol=1e-9, rtol=0)
    points = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).double()
    back = transform_points(invert_rigid(pose), transform_points(pose, points))
    torch.testing.assert_close(back, points, atol=1e-9, rtol=0)


def test_batches_of_poses_and_points() -> None:
    g = torch.Generator().manual_seed(1)
    quaternion, translation = torch.randn(2, 3, 4, generator=g).double(), torch.randn(2, 3, 3, generator=g).double()
    poses = rigid_from_quaternion(quaternion, translation)
    points = torch.randn(2, 3, 5, 3, generator=g).double()
    moved = transform_points(poses, points)
    one = poses[1, 2, :3, :3] @ points[1, 2, 4] + translation[1, 2]
    torch.testing.assert_close(moved[1, 2, 4], one)
