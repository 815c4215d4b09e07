"""Rotation matrices back to quaternions."""

import torch

from bev.geometry.rotations import matrix_from_quaternion, quaternion_from_matrix


def test_round_trip_including_half_turns() -> None:
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    half_turns = torch.eye(4, dtype=torch.float64)
    quaternions = torch.nn.functional.normalize(torch.cat([random, half_turns]), dim=-1)
    positive = torch.where(quaternions[:, :1] < 0, -quaternions, quaternions)
    torch.testing.assert_close(quaternion_from_matrix(matrix_from_quaternion(quaternions)), positive)
